//! Each input that a fuzzer found worth keeping, and each that once showed a fault, run through
//! the checks of its fuzz target.

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic;
use std::path::Path;

/// What the corpora together may take in the repository.
const CORPORA_MAX_BYTES: u64 = 1 << 20;

/// Runs `check` on every input of a corpus.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).expect("list the corpus");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(paths.len() >= 20, "{} inputs are no corpus", paths.len());
    let bytes: u64 = paths.iter().map(|path| path.metadata().expect("a file").len()).sum();
    assert!(bytes <= CORPORA_MAX_BYTES, "{bytes} bytes: `scripts/fuzz.sh cmin` makes it smaller");
    for path in paths {
        let input = fs::read(&path).expect("an input");
        if let Err(cause) = panic::catch_unwind(|| check(&input)) {
            eprintln!("{} fails", path.display());
            panic::resume_unwind(cause);
        }
    }
}

#[test]
fn the_parser_holds_on_its_corpus() {
    replay("parser", targets::parser::check);
}

#[test]
fn the_loader_holds_on_its_corpus() {
    replay("loader", targets::loader::check);
}
