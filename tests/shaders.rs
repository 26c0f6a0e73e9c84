//! Ring 0: every kernel in every permutation, without a device. What naga accepts and can write as SPIR-V, MSL and HLSL
//! is what wgpu hands to Vulkan, Metal and DX12.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, TypeInner};
use wavehull::gpu::Kernel;

/// What every WebGPU device has (specification, section 3.6.2).
const STORAGE_BUFFERS: usize = 8;
const INVOCATIONS: u32 = 256;
const WORKGROUP_MEMORY: u32 = 16 << 10;

fn catalogue() -> Vec<Kernel> {
    let mut all = wavehull::ops::catalogue();
    #[cfg(feature = "train")]
    all.extend(wavehull::train::catalogue());
    #[cfg(feature = "verify")]
    all.extend(wavehull::verify::kernels::catalogue());
    #[cfg(feature = "pack")]
    all.extend(wavehull::pack::catalogue());
    #[cfg(feature = "hash")]
    all.extend(wavehull::hash::catalogue());
    #[cfg(feature = "bench")]
    all.extend(wavehull::bench::catalogue());
    all
}

fn title(kernel: &Kernel) -> String {
    let defines: Vec<String> = kernel.defines.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{} [{}]", kernel.name, defines.join(" "))
}

fn parse(text: &str) -> Result<(Module, ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|error| error.emit_to_string(text))?;
    // No capability beyond the portable ones.
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
    let info = validator.validate(&module).map_err(|error| error.emit_to_string(text))?;
    Ok((module, info))
}

/// Name and offset of every member of the uniform struct at group 1, binding 0.
fn parameters(module: &Module) -> Result<Vec<(String, usize)>, String> {
    let uniform = module.global_variables.iter().map(|(_, v)| v).find(|v| v.space == AddressSpace::Uniform);
    let uniform = uniform.ok_or("no uniform")?;
    if uniform.binding.is_none_or(|b| (b.group, b.binding) != (1, 0)) {
        return Err("the uniform is not at group 1, binding 0".into());
    }
    let TypeInner::Struct { members, .. } = &module.types[uniform.ty].inner else {
        return Err("the parameters are no struct".into());
    };
    Ok(members.iter().map(|m| (m.name.clone().unwrap_or_default(), m.offset as usize)).collect())
}

fn check_parameters(kernel: &Kernel, module: &Module) -> Result<(), String> {
    let found = parameters(module)?;
    let declared: Vec<(String, usize)> = kernel.params.iter().map(|&(name, at)| (name.to_owned(), at)).collect();
    if found != declared {
        return Err(format!("parameters in WGSL {found:?}, in Rust {declared:?}"));
    }
    Ok(())
}

/// Storage buffers stand at group 0, bindings 0, 1, 2 and so on, one for each that the kernel declares.
fn check_bindings(kernel: &Kernel, module: &Module) -> Result<(), String> {
    let is_storage = |space| matches!(space, AddressSpace::Storage { .. });
    let storage = module.global_variables.iter().map(|(_, v)| v).filter(|v| is_storage(v.space));
    let mut places: Vec<(u32, u32)> = storage.filter_map(|v| v.binding).map(|b| (b.group, b.binding)).collect();
    places.sort_unstable();
    let expected: Vec<(u32, u32)> = (0..).take(kernel.bindings.len()).map(|i| (0, i)).collect();
    if places != expected || places.len() > STORAGE_BUFFERS {
        return Err(format!("storage bindings {places:?}, declared {}", kernel.bindings.len()));
    }
    Ok(())
}

fn check_portable(module: &Module) -> Result<(), String> {
    let [entry] = module.entry_points.as_slice() else { return Err("not one entry point".into()) };
    let invocations: u32 = entry.workgroup_size.iter().product();
    if entry.name != "main" || invocations > INVOCATIONS {
        return Err(format!("entry point '{}' of {invocations} invocations", entry.name));
    }
    let workgroup = module.global_variables.iter().map(|(_, v)| v).filter(|v| v.space == AddressSpace::WorkGroup);
    let bytes: u32 = workgroup.map(|v| module.types[v.ty].inner.size(module.to_ctx())).sum();
    if bytes > WORKGROUP_MEMORY {
        return Err(format!("{bytes} bytes of workgroup memory"));
    }
    Ok(())
}

/// WGSL may assume that no NaN occurs, so `x != x` is folded away.
fn check_comparisons(text: &str) -> Result<(), String> {
    let word = |c: char| c.is_alphanumeric() || "_.[]".contains(c);
    for line in text.lines().map(|line| line.split("//").next().unwrap_or_default()) {
        for operator in ["!=", "=="] {
            for (at, _) in line.match_indices(operator) {
                let left: String = line[..at].trim_end().chars().rev().take_while(|&c| word(c)).collect();
                let left: String = left.chars().rev().collect();
                let right: String = line[at + 2..].trim_start().chars().take_while(|&c| word(c)).collect();
                if !left.is_empty() && left == right {
                    return Err(format!("'{}' compares a value with itself", line.trim()));
                }
            }
        }
    }
    Ok(())
}

fn cross_write(module: &Module, info: &ModuleInfo) -> Result<(), String> {
    let options = spv::Options::default();
    let words = spv::write_vec(module, info, &options, None).map_err(|error| format!("SPIR-V: {error}"))?;
    let pipeline = msl::PipelineOptions::default();
    let (metal, translated) = msl::write_string(module, info, &msl::Options::default(), &pipeline)
        .map_err(|error| format!("MSL: {error}"))?;
    for name in &translated.entry_point_names {
        name.as_ref().map_err(|error| format!("MSL: {error}"))?;
    }
    let (options, pipeline) = (hlsl::Options::default(), hlsl::PipelineOptions::default());
    let mut text = String::new();
    let reflection = hlsl::Writer::new(&mut text, &options, &pipeline)
        .write(module, info, None)
        .map_err(|error| format!("HLSL: {error}"))?;
    for name in &reflection.entry_point_names {
        name.as_ref().map_err(|error| format!("HLSL: {error}"))?;
    }
    if words.is_empty() || metal.is_empty() || text.is_empty() {
        return Err("an empty translation".into());
    }
    Ok(())
}

fn check(kernel: &Kernel) -> Result<(), String> {
    let text = kernel.wgsl().map_err(|error| error.to_string())?;
    check_comparisons(&text)?;
    let (module, info) = parse(&text)?;
    check_parameters(kernel, &module)?;
    check_bindings(kernel, &module)?;
    check_portable(&module)?;
    cross_write(&module, &info)
}

#[test]
fn every_permutation_is_valid_portable_and_translates_to_every_backend() {
    let kernels = catalogue();
    assert!(kernels.len() > 40, "{} kernels", kernels.len());
    for kernel in &kernels {
        check(kernel).unwrap_or_else(|why| panic!("{}: {why}", title(kernel)));
    }
}

#[test]
fn no_permutation_stands_in_a_catalogue_twice() {
    let mut seen = BTreeSet::new();
    for kernel in catalogue() {
        assert!(seen.insert(title(&kernel)), "{} twice", title(&kernel));
    }
}

#[test]
fn kernels_that_break_a_rule_are_refused() {
    const SOURCE: &str = include_str!("../shaders/ops/transpose.wgsl");
    let good = catalogue().into_iter().find(|k| k.name == "transpose").unwrap();
    check(&good).unwrap();
    let broken = |from: &str, to: &str| {
        assert!(SOURCE.contains(from), "{from}");
        Kernel { source: Box::leak(SOURCE.replace(from, to).into_boxed_str()), ..good.clone() }
    };
    let main = "@compute";
    for (from, to, why) in [
        ("m: u32, n: u32", "n: u32, m: u32", "parameters in WGSL"),
        ("@group(0) @binding(1)", "@group(0) @binding(2)", "storage bindings"),
        ("@workgroup_size(8, 8, 1)", "@workgroup_size(8, 8, 8)", "512 invocations"),
        (main, "var<workgroup> w: array<u32, 4097>;\n@compute", "16388 bytes"),
        (main, "fn nan(x: f32) -> bool { return x != x; }\n@compute", "compares a value with itself"),
        (main, "fn f(x: f32) -> u32 { return x; }\n@compute", "f"),
        ("array<vec4<u32>>", "array<vec4<f16>>", "f16"),
        (main, "#import \"lib/nothing\"\n@compute", "unknown import"),
    ] {
        let verdict = check(&broken(from, to)).unwrap_err();
        assert!(verdict.contains(why), "'{from}' -> '{to}': {verdict}");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
#[cfg(all(feature = "verify", feature = "train", feature = "pack", feature = "bench"))]
fn every_shader_file_is_in_a_catalogue_under_its_own_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let kernels = catalogue();
    let mut texts = BTreeSet::new();
    for file in files(&root) {
        let text = std::fs::read_to_string(&file).unwrap();
        let stem = file.file_stem().and_then(|s| s.to_str()).unwrap();
        if stem.starts_with("lane_") && !cfg!(feature = "fixed-lane") {
            continue;
        }
        if file.starts_with(root.join("lib")) {
            let import = format!("#import \"lib/{stem}\"");
            let by_kernel = kernels.iter().any(|k| k.source.contains(&import));
            let by_part =
                || files(&root.join("lib")).iter().any(|p| std::fs::read_to_string(p).unwrap().contains(&import));
            assert!(by_kernel || by_part(), "nothing imports {}", file.display());
            continue;
        }
        let of_file: Vec<&Kernel> = kernels.iter().filter(|k| k.source == text).collect();
        assert!(!of_file.is_empty(), "no catalogue holds {}", file.display());
        assert!(of_file.iter().all(|k| k.name == stem), "{} has a kernel of another name", file.display());
        texts.insert(text);
    }
    for kernel in &kernels {
        assert!(texts.contains(kernel.source), "kernel '{}' is no file under shaders/", kernel.name);
    }
}

#[test]
fn every_kernel_file_opens_with_its_contract() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    for file in files(&root).iter().filter(|f| !f.starts_with(root.join("lib"))) {
        let text = std::fs::read_to_string(file).unwrap();
        let header: Vec<&str> = text.lines().take_while(|line| line.starts_with("//")).collect();
        let header = header.join("\n").to_lowercase();
        for word in ["buffers", "geometry", "races"] {
            assert!(header.contains(word), "the header of {} says nothing about '{word}'", file.display());
        }
        assert!(text.lines().count() <= 250, "{} is long", file.display());
    }
}
