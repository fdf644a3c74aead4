//! The loader: whatever a file holds, the load is clean, cut or refused; and never wrong.
//!
//! An input is a log file and behind it `CONTROL_BYTES` that choose the options, and a byte to be
//! damaged.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use server_async::persist::load::{LoadError, LoadOptions, LoadReport, Loader};
use server_async::resp::encode;

use super::disk::Disk;
use super::log_text::{broken_promise, seal_again, walk};

/// Flags; what is flipped in the damaged byte; where it is, three bytes; how many bytes a step is
/// given; how many a read returns at most; which command is refused.
const CONTROL_BYTES: usize = 8;
/// The seals in the file are made true.
const SEAL_AGAIN: u8 = 1;
/// Runs in the file are expanded.
const EXPAND: u8 = 2;
/// `aof-load-truncated no`.
const NO_CUT: u8 = 4;
/// The file is not to be touched.
const READ_ONLY: u8 = 8;
/// The longest argument believed is short.
const SMALL_LIMIT: u8 = 16;
/// A command is refused by what executes it.
const REFUSE: u8 = 32;

/// Above twice what the loader reads at once.
const FILE_MAX_BYTES: usize = 5 << 19;
const NAME: &str = "a.aof";

type Words = Vec<Vec<u8>>;

/// How a load went.
struct Load {
    before: BTreeMap<OsString, Vec<u8>>,
    after: BTreeMap<OsString, Vec<u8>>,
    commands: Vec<Words>,
    result: Result<LoadReport, LoadError>,
}

#[derive(Clone, Copy)]
struct How {
    options: LoadOptions,
    step_bytes: u64,
    short_reads: usize,
    /// The command of this number is refused.
    refuse: Option<usize>,
}

/// Panics if the loader does what it must not.
pub fn check(input: &[u8]) {
    let Some((text, &controls)) = input.split_last_chunk::<CONTROL_BYTES>() else { return };
    let [flags, flip, place @ .., step, short_reads, refuse] = controls;
    let has = |flag| flags & flag != 0;
    let mut text = text.to_vec();
    if has(EXPAND) {
        text = super::expand(&text, FILE_MAX_BYTES);
    }
    if has(SEAL_AGAIN) {
        text = seal_again(&text);
    }
    let options = LoadOptions {
        cut_tail: !has(NO_CUT),
        max_bulk_bytes: if has(SMALL_LIMIT) { 40 } else { 512 << 20 },
        read_only: has(READ_ONLY),
        ..LoadOptions::default()
    };
    let in_one = How {
        options,
        step_bytes: u64::MAX,
        short_reads: 0,
        refuse: has(REFUSE).then_some(usize::from(refuse)),
    };
    // A short read of each few bytes of a large file would take too long.
    let short_reads = text.len() / 256 + usize::from(short_reads);
    let in_steps = How { step_bytes: u64::from(step) + 1, short_reads, ..in_one };

    let whole = load(&text, in_one);
    whole.is_as_it_should_be(in_one);
    let again = load(&text, in_steps);
    assert_eq!(whole.commands, again.commands, "in steps");
    assert_eq!(whole.verdict(), again.verdict(), "in steps");
    assert_eq!(whole.after, again.after, "in steps");

    let place = u32::from_be_bytes([0, place[0], place[1], place[2]]) as usize;
    if text.is_empty() || flip == 0 {
        return;
    }
    let place = place % text.len();
    text[place] ^= flip;
    let damaged = load(&text, in_one);
    damaged.is_as_it_should_be(in_one);
    // Only the sealed parts of a file can tell one value from another.
    let clean = matches!(&whole.result, Ok(report) if report.cut.is_none());
    if clean && whole.sealed(place) && damaged.result.is_ok() {
        assert!(
            whole.commands.starts_with(&damaged.commands),
            "byte {place} was damaged, and another value was loaded: {:?} became {:?}",
            whole.commands,
            damaged.commands
        );
    }
}

/// Loads `text`.
fn load(text: &[u8], how: How) -> Load {
    let disk = Arc::new(Disk::with(NAME, text, how.short_reads));
    let before = disk.contents();
    let mut commands: Vec<Words> = Vec::new();
    let result = run(&disk, how, &mut commands);
    Load { before, after: disk.contents(), commands, result }
}

fn run(disk: &Arc<Disk>, how: How, commands: &mut Vec<Words>) -> Result<LoadReport, LoadError> {
    let mut loader = Loader::open(Arc::clone(disk) as _, OsStr::new(NAME), how.options)?;
    let mut last = 0;
    loop {
        let done = loader.step(how.step_bytes, |args| {
            if how.refuse == Some(commands.len()) {
                return Err("refused".to_owned());
            }
            let words: Vec<&[u8]> = args.iter().collect();
            let mut text = Vec::new();
            encode::command(&mut text, &words);
            assert_eq!(args.raw(), Some(text.as_slice()), "the file's own bytes");
            let words: Words = words.into_iter().map(<[u8]>::to_vec).collect();
            for (index, word) in words.iter().enumerate() {
                assert!(args.take(index).is_none_or(|taken| taken == *word));
            }
            commands.push(words);
            Ok(())
        })?;
        let report = loader.report();
        assert!(last <= report.loaded_bytes && report.loaded_bytes <= report.total_bytes);
        assert_eq!(report.commands, commands.len() as u64);
        last = report.loaded_bytes;
        if done {
            return Ok(report.clone());
        }
    }
}

impl Load {
    /// What must hold of any load.
    fn is_as_it_should_be(&self, how: How) {
        let text = self.text();
        let report = match &self.result {
            Ok(report) => report,
            Err(error) => {
                assert!(!matches!(error, LoadError::Io { .. }), "the disk is sound: {error}");
                assert_eq!(self.before, self.after, "refused, and yet changed: {error}");
                return;
            }
        };
        // It was handed out what the file says, read in the plainest way.
        let end = report.loaded_bytes as usize;
        let good = walk(&text[..end], 0, None);
        assert_eq!(good.fault, None, "in what was loaded");
        assert_eq!(good.commands, self.commands);

        let Some(cut) = &report.cut else {
            assert_eq!(end, text.len(), "clean, and yet not whole");
            assert_eq!(self.before, self.after, "clean, and yet changed");
            return;
        };
        assert!(how.options.cut_tail && !how.options.read_only, "cut, and yet not allowed");
        assert_eq!((cut.offset as usize, cut.bytes as usize), (end, text.len() - end));
        assert!(cut.bytes > 0);
        assert_eq!(self.after.len(), 2);
        assert_eq!(self.after.get(OsStr::new(NAME)).map(Vec::as_slice), Some(&text[..end]));
        let saved = self.after.get(cut.saved_as.as_os_str()).map(Vec::as_slice);
        assert_eq!(saved, Some(&text[end..]));
        // What is longer than the longest argument is damage to the loader alone.
        let alike = how.options.max_bulk_bytes == LoadOptions::default().max_bulk_bytes;
        if alike && let Some(promise) = broken_promise(text, end) {
            panic!("cut at {end}, though {promise:?} was promised");
        }

        let second = load(&text[..end], how);
        assert!(
            matches!(&second.result, Ok(report) if report.cut.is_none()),
            "not clean after a cut: {:?}",
            second.result
        );
        assert_eq!(second.commands, self.commands, "after a cut");
    }

    fn text(&self) -> &[u8] {
        self.before.get(OsStr::new(NAME)).map_or(&[], Vec::as_slice)
    }

    /// Whether the byte at `place` stands in a sealed part of the file.
    fn sealed(&self, place: usize) -> bool {
        walk(self.text(), 0, None).sealed.iter().any(|range| range.contains(&place))
    }

    fn verdict(&self) -> String {
        match &self.result {
            Ok(report) => format!("{report:?}"),
            Err(error) => error.to_string(),
        }
    }
}
