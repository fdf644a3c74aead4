//! Claims about what is read: the search behind damage takes time in proportion to the file, whatever
//! values it holds; and a length in the file is believed as far as the file goes.

use std::ffi::OsStr;

use super::check::check;
use super::damage::Verdict;
use super::format::{GroupSum, Line, SealFields};
use super::load::{LoadError, LoadOptions};
use super::load_tests::{NAME, REDIS, groups, load, load_bytes, sealed, set};
use super::simulated::SimDisk;

const HEADER: &str = "#SH1:0123456789abcdef:1700000000000\r\n";

/// A file with promised groups of which the first two are damaged; the second holds `value`, which
/// is therefore searched.
fn damaged_ahead_of(value: &str) -> Vec<u8> {
    let mut groups = groups(6);
    groups[1] = set("hostile", value);
    let (mut file, ends) = sealed(&groups, &[3]);
    file[ends[0] as usize + 9] ^= 1;
    let key = file.windows(7).position(|text| text == b"hostile").expect("the key");
    file[key] ^= 1;
    file
}

/// Loads and checks the file; it must be refused, and the search must find all that is intact.
fn refused_after_reading(file: &[u8]) -> u64 {
    let (disk, result) = load_bytes(file);
    assert!(matches!(result, Err(LoadError::PromisedDamaged { .. })), "{result:?}");
    let read_by_load = disk.read_bytes();
    let report = check(&*disk.storage(), OsStr::new(NAME), &LoadOptions::default());
    let report = report.expect("can be read");
    assert!(matches!(report.damage.expect("damaged").verdict, Verdict::Promised { .. }));
    let groups: u64 = report.intact.iter().map(|stretch| stretch.groups).sum();
    let commands: u64 = report.intact.iter().map(|stretch| stretch.commands).sum();
    assert!(groups >= 4 && commands >= 4, "{groups} groups, {commands} commands");
    read_by_load.max(disk.read_bytes() - read_by_load)
}

#[test]
fn the_search_reads_in_proportion_to_the_file_whatever_values_hold() {
    const BYTES: usize = 1 << 20;
    let times = |text: &str| text.repeat(BYTES / text.len());
    let deep = format!("{HEADER}*2\r\n$3\r\nGET\r\n$700000\r\n");
    let long = format!("{HEADER}{}", "*1\r\n$4\r\nPING\r\n".repeat(200));
    for value in [times("plain text "), times(HEADER), times("#S1:"), times(&deep), times(&long)] {
        let file = damaged_ahead_of(&value);
        let read = refused_after_reading(&file);
        let passes = read as f64 / file.len() as f64;
        assert!(passes < 12.0, "{:?}...: read {passes:.1} times the file", &value[..40]);
    }
}

/// Whoever knows where in the file a value will stand can put groups into it that verify, each
/// around the next. Even those cannot make the search slow, nor hide the groups around them.
#[test]
fn groups_forged_inside_each_other_do_not_make_the_search_slow() {
    const DEPTH: usize = 2_000;
    let clean = damaged_ahead_of(&"x".repeat(500_000));
    let start = clean.windows(9).position(|text| text == b"xxxxxxxxx").expect("the value");
    let mut value = HEADER.repeat(DEPTH).into_bytes();
    // A record around each inner group, so that reading an outer one gets far.
    value.extend_from_slice(&b"*1\r\n$4\r\nPING\r\n".repeat(10_000));
    for depth in (0..DEPTH).rev() {
        let seed = Line::keep(HEADER.as_bytes()).expect("a header");
        let mut sum = GroupSum::after(&seed);
        sum.add(&value[(depth + 1) * HEADER.len()..]);
        let end = (start + value.len()) as u64;
        let fields = SealFields { end, durable: 0, db: 0, unix_ms: 1 };
        value.extend_from_slice(sum.seal(&fields).as_bytes());
    }
    assert!(value.len() < 500_000);
    value.resize(500_000, b'x');
    let file = damaged_ahead_of(std::str::from_utf8(&value).expect("text"));
    let read = refused_after_reading(&file);
    assert!(read < 12 * file.len() as u64, "read {read} bytes of a file of {}", file.len());
}

/// A server under a raised proto-max-bulk-len logged a value longer than what is allowed now.
#[test]
fn a_length_is_believed_as_far_as_the_file_goes() {
    let options = LoadOptions { max_bulk_bytes: 1_000, ..LoadOptions::default() };
    let long = set("k", &"v".repeat(3_000_000));
    let (file, _) = sealed(&[long.clone(), set("a", "1")], &[]);
    let disk = SimDisk::new(1);
    disk.put(NAME, &file);
    let (report, commands) = load(&disk, options).expect("loads");
    assert_eq!((commands.len(), report.cut), (2, None));
    disk.put(NAME, &[REDIS, &long, REDIS].concat());
    let (report, commands) = load(&disk, options).expect("loads without seals too");
    assert_eq!((commands.len(), report.cut), (5, None));

    // What the file cannot hold is damage, and nothing is cut off without seals.
    disk.put(NAME, &[REDIS, b"*2\r\n$3\r\nGET\r\n$99999\r\nabc\r\n", REDIS].concat());
    let result = load(&disk, options);
    assert!(matches!(result, Err(LoadError::BadFormat { .. })), "{result:?}");
    for length in ["18446744073709551615", "18446744073709551600", "9223372036854775807"] {
        let text = format!("*2\r\n$3\r\nGET\r\n${length}\r\nabc\r\n");
        disk.put(NAME, &[REDIS, text.as_bytes(), REDIS].concat());
        let widest = LoadOptions { max_bulk_bytes: u64::MAX, ..options };
        for options in [options, widest] {
            assert!(load(&disk, LoadOptions { cut_tail: false, ..options }).is_err());
        }
    }
}

#[test]
fn a_damaged_length_does_not_bring_the_file_into_memory() {
    let mut groups = groups(40);
    groups[0] = set("k", &"v".repeat(1_000_000));
    groups.extend((0..20).map(|n| set(&format!("l{n}"), &"w".repeat(1_000_000))));
    let (mut file, _) = sealed(&groups, &[]);
    let at = file.windows(9).position(|text| text == b"$1000000\r").expect("the length");
    file[at + 1] = b'9';
    let disk = SimDisk::new(1);
    disk.put(NAME, &file);
    let result = load(&disk, LoadOptions { cut_tail: false, ..LoadOptions::default() });
    let Err(LoadError::Truncated { stop, .. }) = result else { panic!("{result:?}") };
    assert_eq!(stop.reason, "an argument does not end in CRLF");
    assert!(disk.read_bytes() < 5 * file.len() as u64);
}
