//! Claims about importing: what is taken and in which form, what is refused, and that at no moment
//! anything but the whole new log bears its name.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use tempfile::TempDir;

use super::source::{RedisLog, find_redis_log};
use super::{ImportError, ImportOptions, ImportReport, Progress, Source, import};
use crate::persist::check::check;
use crate::persist::load::LoadOptions;
use crate::persist::load_tests::{NAME, load, sealed, set};
use crate::persist::simulated::{Fault, Op, Rng, SimDisk};
use crate::sys::clock::UnixMs;

const NOW_MS: u64 = 2_000_000_000_000;

fn options() -> ImportOptions {
    ImportOptions {
        cut_tail: true,
        max_bulk_bytes: 512 << 20,
        seals: true,
        key_position: |_| Some(1),
        now: UnixMs(NOW_MS as i64),
    }
}

fn records(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        if line.starts_with('#') {
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
            continue;
        }
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        crate::resp::encode::command(&mut out, &words);
    }
    out
}

/// A directory as Redis 7 has it: a base, if `base` is given, and increments.
struct RedisDir(TempDir);

impl RedisDir {
    fn new(base: Option<&[u8]>, increments: &[&[u8]]) -> RedisDir {
        let dir = RedisDir(tempfile::tempdir().expect("a directory"));
        let mut manifest = String::new();
        if let Some(base) = base {
            dir.put("a.aof.1.base.aof", base);
            manifest.push_str("file a.aof.1.base.aof seq 1 type b\n");
        }
        for (index, text) in increments.iter().enumerate() {
            let name = format!("a.aof.{}.incr.aof", index + 1);
            dir.put(&name, text);
            manifest.push_str(&format!("file {name} seq {} type i\n", index + 1));
        }
        dir.put("a.aof.manifest", manifest.as_bytes());
        dir
    }

    fn put(&self, name: &str, text: &[u8]) {
        fs::write(self.path(name), text).expect("write");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self) -> Result<Source, ImportError> {
        Source::open(self.0.path(), OsStr::new(NAME))
    }
}

fn import_to(
    disk: &SimDisk,
    source: &Source,
    options: ImportOptions,
) -> Result<ImportReport, ImportError> {
    let known = |args: &crate::resp::args::Args<'_>| match args.get(0) {
        Some(b"BAD") => Err("Unknown command 'BAD'".to_owned()),
        _ => Ok(()),
    };
    import(source, disk, OsStr::new(NAME), &options, &mut { known }, &mut |_| {
        ControlFlow::Continue(())
    })
}

/// Imports what must be taken, and gives the new log's commands.
#[track_caller]
fn taken(source: &RedisDir) -> (SimDisk, ImportReport, Vec<String>) {
    let disk = SimDisk::new(1);
    let report = source.open().and_then(|source| import_to(&disk, &source, options()));
    let report = report.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(disk.names(), [NAME]);
    assert_eq!(disk.contents(NAME).map(|text| text.len() as u64), Some(report.bytes));
    let told = check(&disk, OsStr::new(NAME), &LoadOptions::default()).expect("readable");
    assert!(told.damage.is_none() && told.closed, "{told}");
    let (_, commands) = load(&disk, LoadOptions::default()).expect("it loads");
    (disk, report, commands)
}

/// Imports what must be refused, and gives why.
#[track_caller]
fn refused(source: &RedisDir, options: ImportOptions) -> String {
    let disk = SimDisk::new(1);
    let result = source.open().and_then(|source| import_to(&disk, &source, options));
    assert_eq!(disk.names(), [""; 0], "nothing is left behind");
    result.expect_err("refused").to_string()
}

#[test]
fn every_file_begins_in_database_zero_and_history_is_left_out() {
    let dir = RedisDir::new(
        Some(&records(&["SELECT 3", "SET a 1"])),
        &[&records(&["SET b 1"]), b"", &records(&["SELECT 0", "SET c 1", "SELECT 2", "SELECT 0"])],
    );
    let manifest = fs::read_to_string(dir.path("a.aof.manifest")).expect("there");
    let history = "# by hand\nfile \"gone.aof\" seq 7 type h\n";
    dir.put("a.aof.manifest", format!("{history}{manifest}").as_bytes());
    let (_, report, commands) = taken(&dir);
    assert_eq!(commands, ["SELECT 3", "SET a 1", "SELECT 0", "SET b 1", "SET c 1"]);
    assert_eq!((report.files, report.commands, report.transactions), (4, 3, 0));
    assert_eq!(report.cut, None);
}

#[test]
fn a_log_without_a_command_becomes_an_empty_one() {
    let (disk, report, commands) = taken(&RedisDir::new(None, &[b""]));
    assert_eq!((report.commands, commands.len()), (0, 0));
    let text = disk.contents(NAME).expect("there");
    assert!(text.starts_with(b"#SH1:"), "{}", text.escape_ascii());
}

#[test]
fn a_transaction_stays_whole_and_in_one_group() {
    let mut lines = vec!["SET before 1".to_owned(), "MULTI".to_owned(), "SELECT 5".to_owned()];
    let value = "x".repeat(1000);
    lines.extend((0..3000).map(|at| format!("SET key{at} {value}")));
    lines.extend(["#TS:1600000000", "EXEC", "SET behind 1"].map(str::to_owned));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (disk, report, commands) = taken(&RedisDir::new(None, &[&records(&lines)]));
    assert_eq!(report.transactions, 1);
    assert_eq!(commands.len(), 3004);
    assert_eq!(commands[1..4], ["SET before 1", "SELECT 5", lines[3]]);
    let text = disk.contents(NAME).expect("there");
    let at = |what: &[u8]| text.windows(what.len()).position(|part| part == what).expect("there");
    let (begin, end) = (at(b"MULTI"), at(b"EXEC"));
    assert!(!text[begin..end].windows(4).any(|part| part == b"#S1:"), "no seal within");
}

#[test]
fn seals_state_the_time_that_annotations_tell() {
    let base = records(&["#TS:1600000000", "SET a 1"]);
    let increment = records(&[
        "SET b 1",
        "#TS:1600000005",
        "SET c 1",
        "#TS:1600000001",
        "SET d 1",
        "# a remark",
        "#TS:1600000009",
        "#TS:99999999999999999999",
        "SET e 1",
        "#TS:9999999999",
        "SET f 1",
    ]);
    let (disk, ..) = taken(&RedisDir::new(Some(&base), &[&increment]));
    let text = String::from_utf8(disk.contents(NAME).expect("there")).expect("text");
    let mut times = Vec::new();
    let mut keys = Vec::new();
    for line in text.lines() {
        if let Some(seal) = line.strip_prefix("#S1:") {
            let ms: u64 = seal.split(':').nth(3).expect("a time").parse().expect("a number");
            times.push((std::mem::take(&mut keys).concat(), ms));
        } else if line.len() == 1 && line != "1" && line != "0" {
            keys.push(line);
        }
    }
    let s = |second: u64| (1_600_000_000 + second) * 1000 + 999;
    let expected = [("ab", s(0)), ("cd", s(5)), ("e", s(9)), ("f", NOW_MS), ("", NOW_MS)];
    assert_eq!(times[..5], expected.map(|(keys, ms)| (keys.to_owned(), ms)));
    let header = text.lines().next().expect("a header");
    assert!(header.ends_with(&format!(":{}", s(0))), "{header}");
}

#[test]
fn without_seals_it_is_plain() {
    let source = RedisDir::new(None, &[&records(&["#TS:1", "SELECT 1", "SET a 1"])]);
    let disk = SimDisk::new(1);
    let options = ImportOptions { seals: false, ..options() };
    import_to(&disk, &source.open().expect("a log"), options).expect("imported");
    assert_eq!(disk.contents(NAME), Some(records(&["SELECT 1", "SET a 1"])));
}

#[test]
fn only_the_last_file_may_end_early() {
    let whole = records(&["SELECT 0", "SET a 1", "MULTI", "SET b 1", "EXEC"]);
    let more = records(&["SET c 1"]);
    let multi = records(&["SELECT 0", "SET a 1"]).len();
    for cut in 1..whole.len() {
        let torn = &whole[..cut];
        let ends_whole = [multi, records(&["SELECT 0"]).len()].contains(&cut);
        let (_, report, commands) = taken(&RedisDir::new(None, &[&more, torn]));
        assert_eq!(report.cut.is_none(), ends_whole, "cut at {cut}");
        let expected = if cut < multi { 2 } else { 3 };
        assert_eq!(commands.len(), expected, "cut at {cut}: {commands:?}");
        if ends_whole {
            continue;
        }
        let told = report.cut.expect("told");
        assert_eq!(told.offset + told.bytes, cut as u64);
        assert!(told.path.ends_with("a.aof.2.incr.aof"));

        let strict = ImportOptions { cut_tail: false, ..options() };
        let why = refused(&RedisDir::new(None, &[&more, torn]), strict);
        assert!(why.contains("--aof-load-truncated yes"), "{why}");
        for behind in [&more[..], b""] {
            let why = refused(&RedisDir::new(Some(torn), &[behind]), options());
            assert!(why.contains("Only the last file of a log may end early"), "{why}");
            assert!(why.contains("a.aof.1.base.aof"), "{why}");
        }
    }
}

#[test]
fn what_reads_wrong_is_refused_with_its_place_and_key() {
    let mut text = records(&["SELECT 0", "SET a 1", "SET b 1"]);
    let at = text.len() - 2;
    text[at] = b'x';
    let why = refused(&RedisDir::new(None, &[&text]), options());
    let place = records(&["SELECT 0", "SET a 1"]).len();
    assert!(why.contains(&format!("good up to offset {place}: ")), "{why}");
    assert!(why.contains("Nothing was written"), "{why}");
    // What a power cut leaves of a file is zeros; Redis does not start on them either.
    let zeros = [records(&["SET a 1"]), vec![0; 100]].concat();
    let why = refused(&RedisDir::new(None, &[&zeros]), options());
    assert!(why.contains("neither a command nor a # line begins here"), "{why}");
}

#[test]
fn a_command_that_cannot_be_replayed_is_refused_with_its_place() {
    let text = records(&["SET a 1", "MULTI", "BAD x", "EXEC"]);
    let why = refused(&RedisDir::new(None, &[&text]), options());
    let place = records(&["SET a 1", "MULTI"]).len();
    assert!(why.starts_with("Unknown command 'BAD' in "), "{why}");
    assert!(why.ends_with(&format!("a.aof.1.incr.aof (at offset {place})")), "{why}");
    let why = refused(&RedisDir::new(None, &[&records(&["SELECT -1", "SET a 1"])]), options());
    assert!(why.starts_with("Malformed command 'SELECT'"), "{why}");
}

#[test]
fn an_rdb_preamble_is_refused_with_the_way_out() {
    let dir = RedisDir::new(Some(b"REDIS0010\xfa..."), &[&records(&["SET a 1"])]);
    let why = refused(&dir, options());
    for part in [
        "a.aof.1.base.aof, which the manifest ",
        "redis-cli config set aof-use-rdb-preamble no",
        "redis-cli bgrewriteaof",
    ] {
        assert!(why.contains(part), "{why}");
    }
    dir.put("old.aof", b"REDIS0009");
    let single = Source::open(&dir.path("old.aof"), OsStr::new(NAME));
    let why = single.err().expect("refused").to_string();
    assert!(why.contains("old.aof begins with an RDB preamble"), "{why}");
}

#[test]
fn the_log_is_found_by_directory_manifest_or_file() {
    let dir = RedisDir::new(None, &[&records(&["SET a 1"])]);
    let files = |path: &Path| {
        let source = Source::open(path, OsStr::new(NAME)).map_err(|e| e.to_string())?;
        Ok::<_, String>(source.paths().map(Path::to_owned).collect::<Vec<_>>())
    };
    let only = dir.path("a.aof.1.incr.aof");
    for path in [dir.0.path().to_owned(), dir.path("a.aof.manifest"), only.clone()] {
        assert_eq!(files(&path), Ok(vec![only.clone()]), "{}", path.display());
    }
    dir.put("temp-a.aof.manifest", b"half");
    assert_eq!(files(dir.0.path()), Ok(vec![only.clone()]));
    // A manifest under another name is known by how it begins.
    fs::copy(dir.path("a.aof.manifest"), dir.path("copy")).expect("copied");
    assert_eq!(files(&dir.path("copy")), Ok(vec![only.clone()]));
    // Of several, the one of the log's own name is meant.
    dir.put("b.aof.manifest", b"file gone.aof seq 1 type i\n");
    assert_eq!(files(dir.0.path()), Ok(vec![only]));
    let other = Source::open(dir.0.path(), OsStr::new("x")).err().expect("refused").to_string();
    assert!(other.contains("give one: a.aof.manifest, b.aof.manifest"), "{other}");
    let why = files(&dir.path("b.aof.manifest")).expect_err("refused");
    assert!(why.contains("gone.aof, which is not there"), "{why}");
    // One file of several is not the log.
    dir.put("a.aof.manifest", b"file a.aof.1.incr.aof seq 1 type i\nfile z seq 2 type i\n");
    let why = files(&dir.path("a.aof.1.incr.aof")).expect_err("refused");
    assert!(why.contains("it is one of the files that "), "{why}");
    for (manifest, part) in [
        (&b""[..], "Found an empty AOF manifest"),
        (b"file . seq 1 type b\n", "not a regular file"),
        (b"# none\n", "it names no file"),
        (b"file a seq 1 type b\nfile a seq 1 type x\n", "line 2: Unknown AOF file type"),
    ] {
        dir.put("a.aof.manifest", manifest);
        let why = files(dir.0.path()).expect_err("refused");
        assert!(why.contains(part), "{why}");
    }
    assert!(files(&dir.path("nowhere")).expect_err("refused").contains("No such file"));
    fs::create_dir(dir.path("appendonlydir")).expect("made");
    fs::remove_file(dir.path("a.aof.manifest")).expect("removed");
    fs::remove_file(dir.path("b.aof.manifest")).expect("removed");
    let why = files(dir.0.path()).expect_err("refused");
    assert!(why.ends_with(&format!("Give {}", dir.path("appendonlydir").display())), "{why}");
}

#[test]
fn a_redis_log_is_noticed_where_a_server_would_begin_an_empty_one() {
    let dir = RedisDir::new(Some(b""), &[b""]);
    let find = |folder: &Path| find_redis_log(folder, OsStr::new(NAME));
    let manifest = dir.path("a.aof.manifest");
    let found = |files| Some(RedisLog { manifest: manifest.clone(), files });
    assert_eq!(find(dir.0.path()), found(Some(2)));
    dir.put("a.aof.manifest", b"file");
    assert_eq!(find(dir.0.path()), found(None), "what cannot be read may matter");
    dir.put("a.aof.manifest", b"file x seq 1 type h\n");
    assert_eq!(find(dir.0.path()), None, "history is no data");
    fs::remove_file(&manifest).expect("removed");
    assert_eq!(find(dir.0.path()), None);
    assert_eq!(find(&dir.path("nowhere")), None);
}

#[test]
fn an_existing_log_is_never_written_over() {
    let dir = RedisDir::new(None, &[&records(&["SET a 1"])]);
    let disk = SimDisk::new(1);
    disk.put(NAME, b"");
    let result = import_to(&disk, &dir.open().expect("a log"), options());
    assert!(matches!(result, Err(ImportError::TargetExists { .. })), "{result:?}");
    assert_eq!(disk.contents(NAME), Some(Vec::new()));
    assert_eq!(disk.names(), [NAME]);
}

#[test]
fn an_import_that_is_broken_off_leaves_nothing() {
    let dir = RedisDir::new(Some(&records(&["SET a 1"])), &[&records(&["SET b 1"])]);
    let (disk, source) = (SimDisk::new(1), dir.open().expect("a log"));
    let mut told = Vec::new();
    let mut stop = |progress| {
        told.push(progress);
        if told.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let name = OsStr::new(NAME);
    let result = import(&source, &disk, name, &options(), &mut |_| Ok(()), &mut stop);
    assert!(matches!(result, Err(ImportError::Interrupted)), "{result:?}");
    assert_eq!(disk.names(), [""; 0]);
    let total_bytes = source.total_bytes();
    let expected = [total_bytes / 2, total_bytes];
    assert_eq!(told, expected.map(|done_bytes| Progress { done_bytes, total_bytes }));
}

#[test]
fn a_source_that_changes_meanwhile_is_refused() {
    for name in ["a.aof.1.incr.aof", "a.aof.manifest"] {
        let dir = RedisDir::new(None, &[&records(&["SET a 1"])]);
        let (disk, source) = (SimDisk::new(1), dir.open().expect("a log"));
        let mut file = fs::OpenOptions::new().append(true).open(dir.path(name)).expect("there");
        file.write_all(b"#\n").expect("appended");
        let result = import_to(&disk, &source, options());
        assert!(matches!(result, Err(ImportError::Changed { .. })), "{result:?}");
        assert_eq!(disk.names(), [""; 0]);
    }
}

/// Redis 7 takes a file of this server's as its base and goes on behind it.
#[test]
fn a_base_with_this_servers_own_seals_is_taken_and_its_damage_refused() {
    let (base, ends) = sealed(&[set("a", "1"), set("b", "2"), set("c", "3")], &[0, 1, 2]);
    let increment = records(&["SELECT 0", "SET d 4"]);
    let (_, _, commands) = taken(&RedisDir::new(Some(&base), &[&increment]));
    let expected = ["SELECT 0", "SET a 1", "SET b 2", "SET c 3", "SET d 4"];
    assert_eq!(commands, expected);
    for at in [ends[0] as usize + 20, ends[1] as usize + 20] {
        let mut damaged = base.clone();
        damaged[at] ^= 1;
        let last = refused(&RedisDir::new(None, &[&damaged]), options());
        let first = refused(&RedisDir::new(Some(&damaged), &[&increment]), options());
        assert!(last.contains("it had been durable up to offset"), "{last}");
        assert!(first.contains("it had been durable up to offset"), "{first}");
    }
}

#[test]
fn a_crash_leaves_no_log_or_the_whole_one() {
    let value = "x".repeat(100_000);
    let lines: Vec<String> = (0..30).map(|at| format!("SET key{at} {value}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let dir = RedisDir::new(Some(&records(&lines[..20])), &[&records(&lines[20..])]);
    let (_, _, expected) = taken(&dir);
    let (mut none, mut whole) = (0, 0);
    for seed in 0..120 {
        let disk = SimDisk::new(seed);
        disk.crash_after(seed % 20);
        let result = import_to(&disk, &dir.open().expect("a log"), options());
        let after = disk.after_power_cut();
        match after.contents(NAME) {
            None => {
                assert!(result.is_err(), "seed {seed}: done, and gone by a power cut");
                none += 1;
            }
            Some(_) => {
                let (_, commands) = load(&after, LoadOptions::default()).expect("it loads");
                assert_eq!(commands, expected, "seed {seed}");
                whole += 1;
            }
        }
        // Whatever was left, a second try begins afresh.
        if after.contents(NAME).is_none() {
            import_to(&after, &dir.open().expect("a log"), options()).expect("imported");
            assert_eq!(after.names(), [NAME], "seed {seed}");
        }
    }
    assert!(none > 10 && whole > 10, "both happened: {none} {whole}");
}

#[test]
fn a_disk_that_fails_leaves_nothing_but_the_error() {
    let value = "x".repeat(600_000);
    let lines: Vec<String> = (0..8).map(|at| format!("SET key{at} {value}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let dir = RedisDir::new(None, &[&records(&lines)]);
    for op in [Op::Write, Op::Sync, Op::Rename, Op::SyncDir, Op::Create] {
        for skip in 0..4 {
            let disk = SimDisk::new(skip);
            disk.fail(Fault { op, skip, count: 1, errno: Errno::ENOSPC });
            let result = import_to(&disk, &dir.open().expect("a log"), options());
            match result {
                Ok(_) => assert!(skip > 0, "{op:?} {skip}"),
                Err(ImportError::NameNotDurable { .. }) => assert_eq!(disk.names(), [NAME]),
                Err(e) => {
                    assert!(e.to_string().ends_with("No space left on device"), "{e}");
                    assert_eq!(disk.names(), [""; 0], "{op:?} {skip}");
                }
            }
        }
    }
    let disk = SimDisk::new(1);
    disk.short_writes();
    import_to(&disk, &dir.open().expect("a log"), options()).expect("short writes go on");
    assert_eq!(load(&disk, LoadOptions::default()).expect("it loads").1.len(), 9);
}

/// Whatever a byte turns into: refused, or taken as a log that loads. Never a panic.
#[test]
fn mutated_logs_are_refused_or_load() {
    let own = sealed(&[set("own", "1"), set("key", "2")], &[0, 1]).0;
    let base = records(&["#TS:1600000000", "SELECT 1", "SET a 1", "PEXPIREAT a 1700000000000"]);
    let last =
        records(&["SELECT 2", "MULTI", "SET b 2", "SELECT 3", "EXEC", "#TS:1600000003", "X"]);
    let manifest = fs::read(RedisDir::new(Some(b""), &[b""]).path("a.aof.manifest")).expect("read");
    let (mut refused, mut loaded) = (0, 0);
    for seed in 0..1500 {
        let mut rng = Rng(seed);
        let mut parts = [own.clone(), base.clone(), last.clone(), manifest.clone()];
        if rng.one_in(2) {
            parts.swap(0, 1);
        }
        for _ in 0..=rng.below(2) {
            let part = &mut parts[if rng.one_in(3) { 3 } else { 1 + rng.below(2) as usize }];
            let at = rng.below(part.len().max(1) as u64) as usize;
            match rng.below(5) {
                0 => part.truncate(at),
                1 => part.insert(at.min(part.len()), rng.next() as u8),
                2 if at < part.len() => drop(part.remove(at)),
                3 if at < part.len() => part[at] ^= 1 << rng.below(8),
                _ if at < part.len() => part[at] = b"#*$\r\n0 9\0"[rng.below(9) as usize],
                _ => {}
            }
        }
        let [_, base, last, manifest] = &parts;
        let dir = RedisDir::new(Some(base), &[last]);
        dir.put("a.aof.manifest", manifest);
        let disk = SimDisk::new(seed);
        match dir.open().and_then(|source| import_to(&disk, &source, options())) {
            Err(e) => {
                assert!(!e.to_string().is_empty());
                assert_eq!(disk.names(), [""; 0], "seed {seed}");
                refused += 1;
            }
            Ok(report) => {
                let (loaded_report, _) = load(&disk, LoadOptions::default())
                    .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
                assert_eq!(loaded_report.cut, None, "seed {seed}");
                assert_eq!(loaded_report.total_bytes, report.bytes, "seed {seed}");
                loaded += 1;
            }
        }
    }
    assert!(refused > 100 && loaded > 100, "both happened: {refused} {loaded}");
}
