//! Crashes at every operation, full disks at every few bytes, and damage, without a device.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk::Sink;
use super::*;

struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("wavehull-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the folder");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A disk that dies at an operation, or is full after some bytes.
#[derive(Debug)]
struct Faulty {
    /// Operations until the machine stops: nothing happens from then on.
    operations: Arc<AtomicU64>,
    /// Bytes that still fit.
    room: Arc<Mutex<usize>>,
}

impl Faulty {
    fn new(operations: u64, room: usize) -> Self {
        Self { operations: Arc::new(AtomicU64::new(operations)), room: Arc::new(Mutex::new(room)) }
    }

    fn step(operations: &AtomicU64) -> io::Result<()> {
        let step = |left: u64| left.checked_sub(1);
        let left = operations.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        left.map(drop).map_err(|_| io::Error::other("the machine has stopped"))
    }
}

struct FaultySink {
    file: File,
    operations: Arc<AtomicU64>,
    room: Arc<Mutex<usize>>,
}

impl Write for FaultySink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(e) = Faulty::step(&self.operations) {
            // Half of it has reached the disk.
            let _ = self.file.write(&bytes[..bytes.len() / 2]);
            return Err(e);
        }
        let mut room = self.room.lock().expect("no panic");
        let fits = bytes.len().min(*room);
        if fits == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        *room -= fits;
        self.file.write(&bytes[..fits])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for FaultySink {
    fn sync(&mut self) -> io::Result<()> {
        Faulty::step(&self.operations)
    }
}

impl Disk for Faulty {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Self::step(&self.operations)?;
        let (operations, room) = (Arc::clone(&self.operations), Arc::clone(&self.room));
        Ok(Box::new(FaultySink { file: File::create(path)?, operations, room }))
    }

    fn rename(&self, old: &Path, new: &Path) -> io::Result<()> {
        Self::step(&self.operations)?;
        fs::rename(old, new)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Self::step(&self.operations)?;
        fs::remove_file(path)
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Self::step(&self.operations)
    }
}

const ROWS: usize = 6;

fn shapes() -> Vec<Shape> {
    let shape = |name: &str, columns, words: &[usize]| {
        let states = words.len() - 1;
        Shape { name: name.into(), rows: ROWS, columns, states, words: words.to_vec() }
    };
    // The second has weights of 16 bits.
    vec![shape("input", 4, &[4]), shape("output", 8, &[4, 8, 8])]
}

/// What a row of a table holds after the step that last changed it.
fn words(table: usize, row: u32, step: u32, len: usize, salt: u32) -> Vec<u32> {
    (0..len)
        .map(|i| {
            [step, row, u32::try_from(table * 97 + i).unwrap(), salt].iter().fold(7, |h: u32, w| h.wrapping_mul(31) ^ w)
        })
        .collect()
}

fn block(table: usize, ids: &[u32], step: u32) -> Block {
    let shape = &shapes()[table];
    let of = |len: usize, salt: u32| ids.iter().flat_map(|&row| words(table, row, step, len, salt)).collect::<Vec<_>>();
    let arrays = (0..).zip(&shape.words).map(|(a, &words)| of(words, a)).collect();
    Block { table, ids: ids.to_vec(), arrays, book: of(4, 99) }
}

const ALL: [u32; ROWS] = [0, 1, 2, 3, 4, 5];

/// Saves these rows of both tables as of a step: all of them as a base, in two blocks a table.
fn save(store: &mut Store, ids: &[u32], step: u32) -> Result<Saved> {
    let number = store.next_number()?;
    let disk = Arc::clone(&store.disk);
    let mut writer = Writer::new(&*disk, &store.folder, number)?;
    for table in 0..2 {
        for piece in ids.chunks(4) {
            writer.block(&block(table, piece, step))?;
        }
    }
    let part = writer.keep()?;
    let before = if ids.len() == ROWS { Vec::new() } else { store.parent.clone().expect("a base").files };
    store
        .commit(Manifest::new(number, step, shapes(), [before, vec![part]].concat()), format!("step {step}").as_bytes())
}

type Contents = Vec<Vec<(u32, Vec<Vec<u32>>)>>;

/// The rows of the newest state, and its step.
fn load(folder: &Path) -> Result<Option<(u32, Contents)>> {
    let Some(((manifest, meta), _)) = Store::open(folder)?.newest()? else { return Ok(None) };
    assert_eq!(meta, format!("step {}", manifest.step).as_bytes());
    let mut contents: Contents = vec![vec![(u32::MAX, Vec::new()); ROWS]; 2];
    for (i, part) in manifest.files.iter().enumerate() {
        let path = folder.join(&part.name);
        let mut reader = Reader::open(&path, &manifest.tables)?;
        while let Some(block) = reader.next()? {
            for (at, &id) in block.ids.iter().enumerate() {
                let shape = &shapes()[block.table];
                let arrays = block.arrays.iter().zip(&shape.words);
                let mut row: Vec<_> = arrays.map(|(a, &n)| a[at * n..][..n].to_vec()).collect();
                row.push(block.book[at * 4..][..4].to_vec());
                contents[block.table][id as usize] = (id, row);
            }
        }
        if i == 0 {
            reader.check_base()?;
        }
    }
    Ok(Some((manifest.step, contents)))
}

/// What the tables hold after saves of these rows.
fn expected(saves: &[(&[u32], u32)]) -> Contents {
    let row = |table: usize, row: u32| {
        let (_, step) = saves.iter().rev().find(|(ids, _)| ids.contains(&row)).expect("a base");
        let block = block(table, &[row], *step);
        (row, [block.arrays, vec![block.book]].concat())
    };
    (0..2).map(|table| ALL.iter().map(|&id| row(table, id)).collect()).collect()
}

const SAVES: [(&[u32], u32); 3] = [(&ALL, 10), (&[1, 4], 20), (&[0, 1, 2, 3, 5], 30)];

/// A store that does not wait for the disk.
fn quick(folder: &Temporary) -> Store {
    Store::on(&folder.0, Arc::new(Faulty::new(u64::MAX, usize::MAX)))
}

fn filled(name: &str, saves: usize) -> (Temporary, Store) {
    let folder = Temporary::new(name);
    let mut store = quick(&folder);
    for (ids, step) in &SAVES[..saves] {
        save(&mut store, ids, *step).unwrap();
    }
    (folder, store)
}

#[test]
fn a_chain_comes_back_row_by_row() {
    let (folder, store) = filled("chain", 3);
    assert_eq!(load(&folder.0).unwrap().unwrap(), (30, expected(&SAVES)));
    let listing = store.states().unwrap();
    let states: Vec<_> = listing.states.iter().map(|s| (s.number, s.step, s.files)).collect();
    assert_eq!((states, listing.left_out.len()), (vec![(3, 30, 3), (2, 20, 2), (1, 10, 1)], 0));
    let bytes: u64 = 8 + 16 + 2 * 16 * 2 + ROWS as u64 * shapes().iter().map(Shape::row_bytes).sum::<u64>();
    assert_eq!(fs::metadata(folder.0.join("rows-00000001.bin")).unwrap().len(), bytes);
    assert!(load(&Temporary::new("empty").0).unwrap().is_none());
}

#[test]
fn a_crash_at_any_operation_loses_nothing_but_the_unfinished_state() {
    for (ids, name) in [(&[0, 3][..], "increment"), (&ALL[..], "base")] {
        let mut outcomes = [0, 0];
        for stop in 0.. {
            let (folder, before) = filled(&format!("crash-{name}"), 3);
            let mut store = Store { disk: Arc::new(Faulty::new(stop, usize::MAX)), ..before };
            store.policy.bases = 1;
            let saved = save(&mut store, ids, 40);
            let (step, contents) = load(&folder.0).unwrap().expect("a state");
            let all = [&SAVES[..], &[(ids, 40)]].concat();
            let saves = if step == 40 { &all[..] } else { &SAVES[..] };
            assert_eq!(contents, expected(saves), "stopped after {stop} operations");
            assert!(step == 40 || saved.is_err(), "a save that is done is there");
            outcomes[usize::from(step == 40)] += 1;
            // The next process goes on, and nothing of the crash is left.
            let mut next = quick(&folder);
            next.policy.bases = 1;
            save(&mut next, &ALL, 50).unwrap();
            assert_eq!(load(&folder.0).unwrap().unwrap(), (50, expected(&[(&ALL, 50)])));
            assert_eq!(folder.names().len(), 2, "{:?}", folder.names());
            if saved.is_ok() && store.states().unwrap().states.len() == 1 && stop > 60 {
                break;
            }
        }
        assert!(outcomes.iter().all(|&n| n > 5), "{outcomes:?}");
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_what_was_there() {
    let (folder, store) = filled("full", 2);
    let names = folder.names();
    let mut failures = 0;
    for room in (0..).step_by(13) {
        let mut store = Store { disk: Arc::new(Faulty::new(u64::MAX, room)), ..store.clone() };
        match save(&mut store, &[0, 2], 30) {
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Io);
                assert!(e.place().is_some() && e.help().is_some_and(|help| help.contains("make room")), "{e}");
                failures += 1;
            }
            Ok(_) => break,
        }
        assert_eq!(load(&folder.0).unwrap().unwrap(), (20, expected(&SAVES[..2])));
        // Rows that were written before there was no room for the manifest wait for the next save.
        let left: Vec<_> = folder.names().into_iter().filter(|name| !names.contains(name)).collect();
        assert!(left.iter().all(|name| name.ends_with(".bin")), "{left:?}");
    }
    assert!(failures > 20);
    assert_eq!(load(&folder.0).unwrap().unwrap(), (30, expected(&[SAVES[0], SAVES[1], (&[0, 2], 30)])));
    assert_eq!(folder.names().len(), 6, "{:?}", folder.names());
}

/// What a folder gives after one of its files was changed, which must be an earlier state or an error that names a file.
fn after_damage(folder: &Temporary, name: &str, bytes: &[u8]) -> Option<u32> {
    let path = folder.0.join(name);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let found = load(&folder.0);
    fs::write(&path, whole).unwrap();
    match found {
        Ok(found) => {
            let (step, contents) = found.expect("states are there");
            let saves = SAVES.iter().position(|&(_, s)| s == step).expect("one of the states") + 1;
            assert_eq!(contents, expected(&SAVES[..saves]), "{name}");
            Some(step)
        }
        Err(e) => {
            assert!(e.place().is_some() && e.help().is_some(), "{name}: {e}");
            None
        }
    }
}

#[test]
fn cuts_and_flipped_bits_are_noticed() {
    let (folder, store) = filled("damage", 3);
    let base = "rows-00000001.bin";
    for name in folder.names() {
        let whole = fs::read(folder.0.join(&name)).unwrap();
        let newest = name.contains("00000003");
        let good = match name.as_str() {
            "rows-00000001.bin" => None,
            "rows-00000002.bin" => Some(10),
            _ if newest => Some(20),
            _ => Some(30),
        };
        for length in (0..whole.len()).step_by(13).chain([whole.len() - 1]) {
            assert_eq!(after_damage(&folder, &name, &whole[..length]), good, "{name} cut to {length}");
        }
        // The first bytes hold lengths; behind them, one checksum covers all.
        for at in (0..40).chain((40..whole.len()).step_by(11)) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            let found = after_damage(&folder, &name, &bytes);
            // A first line that seems to be a newer version's is not passed over.
            assert!(
                found == good || (newest && found.is_none()) || name.starts_with("state"),
                "{name}, byte {at}: {found:?}"
            );
            assert!(found != Some(30) || !newest, "{name}, byte {at}");
        }
    }
    fs::remove_file(folder.0.join(base)).unwrap();
    let error = load(&folder.0).unwrap_err();
    assert!(error.to_string().contains(base) && error.help().unwrap().contains("no state"), "{error}");
    fs::remove_file(folder.0.join("state-00000003.ckpt")).unwrap();
    assert_eq!(store.states().unwrap().states.len(), 2);
}

#[test]
fn going_on_from_an_older_state_does_not_take_newer_increments() {
    let (folder, store) = filled("older", 3);
    let path = folder.0.join("rows-00000003.bin");
    let cut = fs::read(&path).unwrap();
    fs::write(&path, &cut[..cut.len() - 1]).unwrap();
    let ((manifest, _), left_out) = store.newest().unwrap().unwrap();
    assert_eq!((manifest.step, left_out.len(), left_out[0].name.as_str()), (20, 1, "state-00000003.ckpt"));
    let mut store = Store { parent: Some(manifest), ..store };
    assert_eq!(save(&mut store, &[5], 25).unwrap().number, 4);
    assert_eq!(load(&folder.0).unwrap().unwrap(), (25, expected(&[SAVES[0], SAVES[1], (&[5], 25)])));
}

#[test]
fn later_states_are_forgotten_newest_first_and_their_numbers_are_not_used_again() {
    let steps = |store: &Store| store.states().unwrap().states.iter().map(|s| s.step).collect::<Vec<_>>();
    for stop in 0..4 {
        let (folder, before) = filled("forget", 3);
        // One that cannot be read goes like the others.
        fs::write(folder.0.join("state-00000004.ckpt"), "torn").unwrap();
        let mut store = Store { disk: Arc::new(Faulty::new(stop, usize::MAX)), ..before };
        assert_eq!(store.forget_after(1).ok(), None, "stopped after {stop} operations");
        assert_eq!(steps(&store), [&[30, 20, 10][..], &[30, 20, 10], &[20, 10], &[10]][stop as usize]);
        let (step, contents) = load(&folder.0).unwrap().unwrap();
        assert_eq!(contents, expected(&SAVES[..step as usize / 10]));
    }
    let (folder, store) = filled("forget", 3);
    let mut store =
        Store { parent: Some(Manifest::read(&folder.0.join("state-00000001.ckpt"), 1).unwrap().0), ..store };
    assert_eq!((store.forget_after(1).unwrap(), store.forget_after(1).unwrap()), (2, 0));
    assert_eq!(load(&folder.0).unwrap().unwrap(), (10, expected(&SAVES[..1])));
    assert_eq!(save(&mut store, &[5], 15).unwrap().number, 4);
    assert_eq!(steps(&store), [15, 10]);
    assert_eq!(load(&folder.0).unwrap().unwrap(), (15, expected(&[SAVES[0], (&[5], 15)])));
    assert_eq!(folder.names().len(), 4, "rows that nobody needs are gone: {:?}", folder.names());
}

#[test]
fn bases_beyond_the_policy_go_and_their_last_state_stays() {
    let (folder, mut store) = filled("tidy", 3);
    save(&mut store, &ALL, 40).unwrap();
    let states = |store: &Store| store.states().unwrap().states.iter().map(|s| s.step).collect::<Vec<_>>();
    assert_eq!(states(&store), [40, 30]);
    save(&mut store, &[2], 50).unwrap();
    assert_eq!(states(&store), [50, 40, 30]);
    save(&mut store, &ALL, 60).unwrap();
    assert_eq!(states(&store), [60, 50]);
    assert_eq!(folder.names().len(), 2 + 3);
    assert_eq!(load(&folder.0).unwrap().unwrap(), (60, expected(&[(&ALL, 60)])));
}

#[test]
fn files_that_fit_their_checksums_and_nothing_else_are_refused() {
    let folder = Temporary::new("hostile");
    let mut store = Store::open(&folder.0).unwrap();
    let mut refused = |blocks: &[Block]| {
        let number = store.next_number().unwrap();
        let mut writer = Writer::new(&Real, &folder.0, number).unwrap();
        blocks.iter().for_each(|block| writer.block(block).unwrap());
        let part = writer.keep().unwrap();
        store.commit(Manifest::new(number, 1, shapes(), vec![part]), b"step 1").unwrap();
        load(&folder.0).unwrap_err().to_string()
    };
    let (input, output) = (block(0, &ALL, 1), block(1, &ALL, 1));
    assert!(refused(std::slice::from_ref(&input)).contains("0 of 6 rows of table 'output'"));
    assert!(refused(&[input.clone(), block(1, &[0, 1, 3, 2, 4, 5], 1)]).contains("do not stand in order"));
    assert!(refused(&[input.clone(), block(1, &[0, 1, 2, 3, 4, 6], 1)]).contains("do not stand in order"));
    assert!(refused(&[input.clone(), input.clone()]).contains("do not stand in order"));
    assert!(refused(&[input.clone(), Block { table: 2, ..output.clone() }]).contains("a table that is none"));
    assert!(refused(&[Block { table: 1, ..input }, output]).contains("does not fit"));
    for text in
        ["", "\n", "wavehull-hash-checkpoint 1 5 5\n", "wavehull-hash-checkpoint 1 2 18446744073709551615 0\n{}"]
    {
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap_err().kind(), ErrorKind::BadInput, "{text}");
    }
    let newer = Manifest::parse(b"wavehull-hash-checkpoint 2 ???\n").unwrap_err();
    assert_eq!(newer.kind(), ErrorKind::BadInput, "not five words");
    assert_eq!(Manifest::parse(b"wavehull-hash-checkpoint 2 0 0 0\n").unwrap_err().kind(), ErrorKind::Unsupported);
    let outside = Part { name: "../rows-00000001.bin".into(), bytes: 0, crc32: 0, rows: 0 };
    let bytes = Manifest::new(1, 1, shapes(), vec![outside]).bytes(b"").unwrap();
    assert!(Manifest::parse(&bytes).unwrap_err().to_string().contains("names files"));
}
