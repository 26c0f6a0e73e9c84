//! Lends a device that the host program opened by itself, and computes on it: two programs, one GPU, no copies.
//!
//! `cargo run --release --example borrowed_device`

use wavehull::gpu::{Recording, required_features, required_limits};
use wavehull::ops::matmul::Matmul;
use wavehull::{Control, Gpu, Options, Tensor, wgpu};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The host opens what it needs, and asks for what wavehull can use where the adapter has it.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("the host's"),
        required_features: required_features() & adapter.features(),
        required_limits: required_limits(&adapter),
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))?;

    // Handles are cheap to clone. No handler is installed on the device and nothing of it is destroyed.
    let gpu = Gpu::from_wgpu(device.clone(), queue.clone(), &adapter.get_info(), &Options::default());
    println!("borrowed: {}", gpu.caps());

    let a = Tensor::from_slice(&gpu, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
    let b = Tensor::from_slice(&gpu, &[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0])?;
    let c = Tensor::uninit(&gpu, &[2, 2])?;
    let mut recording = Recording::new();
    Matmul::default().record(&mut recording, gpu.caps(), &a, &b, &c)?;
    gpu.run(&recording, &Control::default())?;
    println!("product: {}", c.to_array(&gpu)?);

    // The engine goes, the device stays the host's.
    drop((a, b, c, gpu));
    let mine = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("the host's"),
        size: 256,
        usage: wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    queue.write_buffer(&mine, 0, &[0; 256]);
    queue.submit([]);
    device.poll(wgpu::PollType::wait_indefinitely())?;
    println!("the host's device still works");
    Ok(())
}
