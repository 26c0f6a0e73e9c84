//! `wavehull pack encode` and `decode`: arrays in a compressed, checked file.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use wavehull::pack::codec::{Codec, EncodeOptions, Entry, Written, check, decode_file, encode_file};
use wavehull::{Error, Gpu, Result, VERSION};

use super::super::device::DeviceArgs;
use super::super::progress::Bar;
use super::super::render::{Table, bytes, digits, since};
use super::super::{Global, SCHEMA};

/// Arguments of `wavehull pack encode`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Arrays of int8, uint8, int16, float16 and bfloat16 are coded, without loss. docs/pack.md describes codecs and file.

Examples:
  wavehull pack encode weights.safetensors weights.whpk
  wavehull pack encode weights.safetensors weights.whpk --codec width     faster, larger")]
pub struct EncodeArgs {
    /// A .safetensors, .npy or .npz file
    #[arg(value_name = "ARRAYS")]
    from: PathBuf,
    /// The compressed file
    #[arg(value_name = "FILE.whpk")]
    to: PathBuf,
    /// raw, width (integers), rans (integers) or exponent (fp16, bf16), for all arrays that it takes [default: rans, exponent]
    #[arg(long, value_name = "CODEC", value_parser = |name: &str| Codec::of_name(name).map_err(|e| format!("{}: {}", e.message(), e.help().unwrap_or_default())))]
    codec: Option<Codec>,
    /// Values that are coded together: what has to be read to get at any one of them
    #[arg(long, value_name = "N", default_value_t = wavehull::pack::codec::CHUNK)]
    chunk: usize,
    /// Use no device: the same bytes, made by the processor
    #[arg(long)]
    host: bool,
    /// Print what was written as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Arguments of `wavehull pack decode`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wavehull pack decode weights.whpk weights.safetensors
  wavehull pack decode weights.whpk --check")]
pub struct DecodeArgs {
    /// The compressed file
    #[arg(value_name = "FILE.whpk")]
    from: PathBuf,
    /// A .safetensors, .npy or .npz file to write
    #[arg(value_name = "ARRAYS", required_unless_present_any = ["list", "check"])]
    to: Option<PathBuf>,
    /// Say what is inside, by its table alone, and write nothing
    #[arg(long, conflicts_with = "to")]
    list: bool,
    /// Decode everything, compare every checksum, and write nothing
    #[arg(long, conflicts_with_all = ["to", "list"])]
    check: bool,
    /// Use no device
    #[arg(long)]
    host: bool,
    /// Print what is inside as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What `encode --json` prints.
#[derive(serde::Serialize)]
struct Encoded<'a> {
    schema: u32,
    version: &'static str,
    seconds: f64,
    #[serde(flatten)]
    written: &'a Written,
}

/// What `decode --json` prints.
#[derive(serde::Serialize)]
struct Decoded<'a> {
    schema: u32,
    version: &'static str,
    tensors: Vec<Inside<'a>>,
}

#[derive(serde::Serialize)]
struct Inside<'a> {
    name: &'a str,
    element: &'static str,
    shape: &'a [usize],
    values: usize,
    chunks: usize,
    bytes: u64,
}

/// Compresses a file of arrays.
///
/// # Errors
/// Errors of the files with their place; device errors.
pub fn encode(args: &EncodeArgs, global: &Global) -> Result<ExitCode> {
    let gpu = device(args.host, &args.device, global)?;
    let mut options = EncodeOptions::default();
    (options.codec, options.chunk) = (args.codec, args.chunk);
    let start = Instant::now();
    let bar = Bar::phases(global);
    let written = encode_file(&args.from, &args.to, &options, gpu.as_ref(), &bar.control());
    bar.finish();
    let (written, seconds) = (written?, since(start));
    if args.json {
        global.print_json(&Encoded { schema: SCHEMA, version: VERSION, seconds, written: &written })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["array", "codec", "values", "bytes", "stored", "share", "chunks stored raw"]);
    for tensor in &written.tensors {
        let raw = tensor.raw_bits.div_ceil(8);
        table.row([
            tensor.name.clone(),
            tensor.codec.name().to_owned(),
            tensor.values.to_string(),
            bytes(raw),
            bytes(tensor.bytes),
            format!("{:.3}", tensor.bytes as f64 / raw.max(1) as f64),
            format!("{} of {}", tensor.raw_chunks, tensor.chunks),
        ]);
    }
    let raw: u64 = written.tensors.iter().map(|tensor| tensor.raw_bits.div_ceil(8)).sum();
    let rate = digits(raw as f64 / seconds / 1e6);
    global.print(format!(
        "{}\n{} of arrays in {}, {:.3} of them, {rate} MB/s with reading and writing: {}",
        table.render(global.out),
        bytes(raw),
        bytes(written.bytes),
        written.bytes as f64 / raw.max(1) as f64,
        args.to.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// Brings a file of arrays back, or says what is inside.
///
/// # Errors
/// Errors of the files with their place; device errors.
pub fn decode(args: &DecodeArgs, global: &Global) -> Result<ExitCode> {
    let entries = match &args.to {
        None if args.check => {
            let gpu = device(args.host, &args.device, global)?;
            let bar = Bar::phases(global);
            let checked = check(&args.from, gpu.as_ref(), &bar.control());
            bar.finish();
            checked?
        }
        None => inside(args)?,
        Some(to) => {
            let gpu = device(args.host, &args.device, global)?;
            let bar = Bar::phases(global);
            let entries = decode_file(&args.from, to, gpu.as_ref(), &bar.control());
            bar.finish();
            entries?
        }
    };
    let of = |entry: &'_ Entry| (entry.head().element.name(), entry.len(), entry.chunks().len(), entry.stored());
    if args.json {
        let tensors = entries.iter().map(|entry| {
            let (element, values, chunks, bytes) = of(entry);
            Inside { name: &entry.head().name, element, shape: &entry.head().shape, values, chunks, bytes }
        });
        global.print_json(&Decoded { schema: SCHEMA, version: VERSION, tensors: tensors.collect() })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["array", "type", "shape", "values", "chunks", "stored"]);
    for entry in &entries {
        let (element, values, chunks, stored) = of(entry);
        let shape = format!("{:?}", entry.head().shape);
        table.row([
            entry.head().name.clone(),
            element.to_owned(),
            shape,
            values.to_string(),
            chunks.to_string(),
            bytes(stored),
        ]);
    }
    global.print(table.render(global.out));
    match &args.to {
        Some(to) => global.say(format!("written, every checksum right: {}", to.display())),
        None if args.check => global.say("every checksum is right"),
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The table of a container.
fn inside(args: &DecodeArgs) -> Result<Vec<Entry>> {
    let file = std::fs::File::open(&args.from).map_err(|e| Error::io(&args.from, e))?;
    let reader = wavehull::pack::Reader::new(std::io::BufReader::new(file), &args.from)?;
    Ok(reader.entries().to_vec())
}

fn device(host: bool, device: &DeviceArgs, global: &Global) -> Result<Option<Gpu>> {
    if host { Ok(None) } else { device.open(global).map(Some) }
}
