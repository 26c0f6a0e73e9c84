//! Parameter structs of kernels: `repr(C)`, with the offsets that a test compares with naga's.

/// A kernel's parameter struct.
pub trait Params: bytemuck::Pod {
    /// Name and byte offset of every member, as declared in WGSL.
    const LAYOUT: &'static [(&'static str, usize)];
}

/// Declares a parameter struct; `grid`, which the device layer fills in, comes first by itself.
macro_rules! params {
    ($name:ident { $($field:ident : $ty:ty),* $(,)? }) => {
        #[repr(C)]
        #[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
        pub(crate) struct $name {
            pub(crate) grid: [u32; 4],
            $(pub(crate) $field: $ty),*
        }

        impl $crate::gpu::Params for $name {
            const LAYOUT: &'static [(&'static str, usize)] =
                &[("grid", 0), $((stringify!($field), std::mem::offset_of!($name, $field))),*];
        }
    };
}
pub(crate) use params;
