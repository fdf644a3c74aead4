//! What the fuzz targets check. `fuzz_targets/` feeds it what the fuzzer makes up, and
//! `tests/fuzz_corpus.rs` of the server what is kept in `corpus/`.

mod disk;
pub mod loader;
mod log_text;
pub mod parser;

/// Marks a run in an input: the marker, a count of 256-byte units, and the byte that is repeated.
const RUN_MARKER: u8 = 0xff;

/// Writes out the runs in `input`, so that a short input can hold a large argument. Ends at
/// `limit` bytes.
fn expand(input: &[u8], limit: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len());
    let mut rest = input;
    while let [first, behind @ ..] = rest
        && out.len() < limit
    {
        rest = match behind {
            &[count, byte, ref behind @ ..] if *first == RUN_MARKER => {
                out.resize(out.len() + usize::from(count) * 256, byte);
                behind
            }
            _ => {
                out.push(*first);
                behind
            }
        };
    }
    out.truncate(limit);
    out
}
