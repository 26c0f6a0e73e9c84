//! Rows of tables between the device and blocks of a file. Kernel: `rows_put`.

use std::ops::Range;

use super::format::{Block, Shape};
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Control, Gpu, Grid, Kernel, Recording, params};
use crate::hash::Rows;
use crate::ops::{strided_grid, word};
use crate::tensor::{ALIGNED, Tensor};

const ROWS_PUT: &str = include_str!("../../../shaders/hash/rows_put.wgsl");
/// Bytes of one array that travel at a time.
const PIECE: usize = 4 << 20;
/// Rows of the book that are read at a time.
const BOOK_PIECE: usize = 1 << 16;

params!(RowsPutParams { len: u32, threads: u32, width4: u32, first: u32, rows: u32, pad0: u32, pad1: u32, pad2: u32 });

/// Rows that travel at a time: a multiple of [`ALIGNED`] where bindings allow.
pub(crate) fn piece(caps: &Caps, columns: usize) -> usize {
    let bound = usize::try_from(caps.max_binding).unwrap_or(usize::MAX);
    let rows = PIECE.min(bound) / 4 / columns.max(4);
    if rows >= ALIGNED { rows / ALIGNED * ALIGNED } else { rows.max(1) }
}

/// Pieces of `0..rows` that start at multiples of [`ALIGNED`].
pub(crate) fn pieces(rows: usize, columns: usize) -> impl Iterator<Item = Range<usize>> {
    let step = (PIECE / 4 / columns.max(4)).max(1).next_multiple_of(ALIGNED);
    (0..rows).step_by(step).map(move |start| start..rows.min(start + step))
}

/// Rows of some tables of `columns` columns each, as words.
pub(crate) async fn read_async(
    gpu: &Gpu,
    tables: &[Tensor<u32>],
    range: &Range<usize>,
    control: &Control,
) -> Result<Vec<Vec<u32>>> {
    let mut recording = Recording::new();
    let part = |table: &Tensor<u32>| table.part(range.start * table.columns(), range.len() * table.columns());
    let tickets: Vec<_> = tables.iter().map(|table| Ok(recording.read(part(table)?))).collect::<Result<_>>()?;
    let mut output = gpu.run_async(&recording, control).await?;
    let words = tables.iter().zip(tickets).map(|(table, ticket)| {
        let mut words: Vec<u32> = output.take(ticket);
        words.truncate(range.len() * table.columns());
        words
    });
    Ok(words.collect())
}

/// Weights, states and the book as words in memory, whatever they hold; what pads rows is taken along.
fn arrays(table: &Rows) -> Result<Vec<Tensor<u32>>> {
    let tensors = std::iter::once(&table.weights).chain(&table.state).map(Tensor::words).chain([table.book.clone()]);
    let whole = |t: Tensor<u32>| t.view(&[table.len(), t.row_stride()]);
    tensors.map(|t| whole(t).ok_or_else(|| Error::internal("a table with gaps between its rows"))).collect()
}

/// Words of the longest row.
fn widest(arrays: &[Tensor<u32>]) -> usize {
    arrays.iter().map(Tensor::columns).max().unwrap_or(4)
}

fn block(table: usize, ids: Vec<u32>, mut arrays: Vec<Vec<u32>>) -> Block {
    let book = arrays.pop().unwrap_or_default();
    Block { table, ids, arrays, book }
}

/// Hands all rows of a table to `take`, piece by piece.
pub(super) async fn all_async(
    gpu: &Gpu,
    (number, table): (usize, &Rows),
    control: &Control,
    take: &mut (dyn FnMut(Block) -> Result<()> + Send),
) -> Result<()> {
    let arrays = arrays(table)?;
    for range in pieces(table.len(), widest(&arrays)) {
        let words = read_async(gpu, &arrays, &range, control).await?;
        let ids = (word(range.start)?..word(range.end)?).collect();
        take(block(number, ids, words))?;
    }
    Ok(())
}

/// Ids of the rows that a gradient has touched since a step. The list goes into a file, so the host has to see it anyway; of the rows
/// themselves nothing is read for it but 16 bytes each.
pub(super) async fn touched_async(gpu: &Gpu, table: &Rows, since: u32, control: &Control) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for start in (0..table.len()).step_by(BOOK_PIECE) {
        let range = start..table.len().min(start + BOOK_PIECE);
        let book = read_async(gpu, std::slice::from_ref(&table.book), &range, control).await?;
        let rows = (word(start)?..).zip(book[0].chunks_exact(4));
        ids.extend(rows.filter(|(_, row)| row[1] > since).map(|(id, _)| id));
    }
    Ok(ids)
}

/// The least stamp of the rows of a table: its optimiser has seen all later steps of none but of newer rows.
pub(super) async fn oldest_async(gpu: &Gpu, table: &Rows, control: &Control) -> Result<u32> {
    let mut oldest = u32::MAX;
    for start in (0..table.len()).step_by(BOOK_PIECE) {
        let range = start..table.len().min(start + BOOK_PIECE);
        let book = read_async(gpu, std::slice::from_ref(&table.book), &range, control).await?;
        oldest = book[0].chunks_exact(4).map(|row| row[0]).fold(oldest, u32::min);
    }
    Ok(oldest)
}

/// Hands the rows `ids` of a table to `take`, piece by piece: gathered on the device.
pub(super) async fn chosen_async(
    gpu: &Gpu,
    (number, table): (usize, &Rows),
    ids: &[u32],
    control: &Control,
    take: &mut (dyn FnMut(Block) -> Result<()> + Send),
) -> Result<()> {
    let caps = gpu.caps();
    let sources = arrays(table)?;
    let most = piece(caps, widest(&sources)).min(ids.len().max(1));
    let places: Tensor<u32> = Tensor::uninit_async(gpu, &[most]).await?;
    let mut staging = Vec::new();
    for source in &sources {
        staging.push(Tensor::<u32>::uninit_async(gpu, &[most, source.columns()]).await?);
    }
    let windows = table.windows(caps)?;
    for chosen in ids.chunks(most) {
        gpu.upload(places.buffer(), bytemuck::cast_slice(chosen))?;
        let (mut recording, mut tickets) = (Recording::new(), Vec::new());
        for (source, staging) in sources.iter().zip(&staging) {
            for window in windows.iter().filter(|window| holds(window, chosen)) {
                dispatch(
                    &mut recording,
                    caps,
                    &Move { panel: staging, ids: &places, table: source, take: true },
                    window,
                    chosen.len(),
                )?;
            }
            let len = chosen.len() * source.columns();
            tickets.push((recording.read(staging.part(0, len)?), len));
        }
        let mut output = gpu.run_async(&recording, control).await?;
        let words = tickets.into_iter().map(|(ticket, len)| {
            let mut words: Vec<u32> = output.take(ticket);
            words.truncate(len);
            words
        });
        take(block(number, chosen.to_vec(), words.collect()))?;
    }
    Ok(())
}

/// Whether one of ascending ids may lie in a window.
fn holds(window: &Range<usize>, ids: &[u32]) -> bool {
    let (first, last) = (ids.first().map_or(0, |&id| id as usize), ids.last().map_or(0, |&id| id as usize));
    first < window.end && last >= window.start
}

/// Puts the rows of a block into a table.
pub(super) async fn put_async(gpu: &Gpu, table: &Rows, block: &Block, control: &Control) -> Result<()> {
    let targets = arrays(table)?;
    let most = piece(gpu.caps(), widest(&targets)).min(block.ids.len());
    let places: Tensor<u32> = Tensor::uninit_async(gpu, &[most]).await?;
    let mut staging = Vec::new();
    for target in &targets {
        staging.push(Tensor::<u32>::uninit_async(gpu, &[most, target.columns()]).await?);
    }
    let windows = table.windows(gpu.caps())?;
    for start in (0..block.ids.len()).step_by(most.max(1)) {
        let range = start..block.ids.len().min(start + most);
        let ids = &block.ids[range.clone()];
        gpu.upload(places.buffer(), bytemuck::cast_slice(ids))?;
        let mut recording = Recording::new();
        let words = block.arrays.iter().chain(std::iter::once(&block.book));
        for ((words, target), staging) in words.zip(&targets).zip(&staging) {
            let columns = target.columns();
            gpu.upload(staging.buffer(), bytemuck::cast_slice(&words[range.start * columns..range.end * columns]))?;
            for window in windows.iter().filter(|window| holds(window, ids)) {
                let put = Move { panel: staging, ids: &places, table: target, take: false };
                dispatch(&mut recording, gpu.caps(), &put, window, ids.len())?;
            }
        }
        gpu.run_async(&recording, control).await?;
    }
    Ok(())
}

/// Rows between a table and a panel that holds them one after the other.
struct Move<'a> {
    panel: &'a Tensor<u32>,
    ids: &'a Tensor<u32>,
    table: &'a Tensor<u32>,
    /// From the table, not into it.
    take: bool,
}

/// Records what moves those of the first `count` rows that lie in a window.
fn dispatch(
    recording: &mut Recording,
    caps: &Caps,
    rows: &Move<'_>,
    window: &Range<usize>,
    count: usize,
) -> Result<()> {
    let width4 = rows.table.columns() / 4;
    let (groups, threads) = strided_grid(count * width4, caps.max_workgroups)?;
    let params = RowsPutParams {
        len: word(count * width4)?,
        threads,
        width4: word(width4)?,
        first: word(window.start)?,
        rows: word(window.len())?,
        ..Default::default()
    };
    let share = rows.table.part(window.start * rows.table.columns(), window.len() * rows.table.columns())?;
    let (panel, ids) = (rows.panel.binding(), rows.ids.binding());
    let bindings = if rows.take { vec![share, ids, panel] } else { vec![panel, ids, share] };
    let work = (count * width4 * 4) as f64;
    recording.dispatch(&kernel(rows.take), bindings, &params, Grid::Direct([groups, 1, 1]), work)
}

/// Whether tables are what a manifest names.
pub(super) fn fits(shapes: &[Shape], tables: &[(&str, &Rows)]) -> Result<()> {
    let other = |what: String| {
        Err(Error::bad_input(what)
            .with_help("this checkpoint is of another network: take its own configuration, or another folder"))
    };
    if shapes.len() != tables.len() {
        return other(format!("the checkpoint has {} tables, the network {}", shapes.len(), tables.len()));
    }
    for (shape, (name, table)) in shapes.iter().zip(tables) {
        let own = Shape::new(name, table);
        if *shape != own {
            let text = |s: &Shape| {
                format!(
                    "'{}' of {} rows, {} columns and {} states ({:?} words a row)",
                    s.name, s.rows, s.columns, s.states, s.words
                )
            };
            return other(format!("the checkpoint has a table {}, the network one {}", text(shape), text(&own)));
        }
    }
    Ok(())
}

fn kernel(take: bool) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write];
    Kernel::new::<RowsPutParams>("rows_put", ROWS_PUT, &bindings).flag("TAKE", take)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![kernel(false), kernel(true)]
}
