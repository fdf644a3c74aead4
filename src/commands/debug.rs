//! DEBUG: what tests and operators ask that clients have no business with.

use super::digest::Digest;
use super::options;
use crate::config::value::parse_memory as memory_amount;
use crate::data::{NewValue, ValueRef};
use crate::engine::command::Arity::AtLeast;
use crate::engine::command::{CommandSpec, Doc, Flags};
use crate::engine::cx::Cx;
use crate::engine::effects::Action;
use crate::engine::error::{CommandError, CommandResult};
use crate::engine::execute::LOADING;
use crate::keyspace::{Database, Deadline};
use crate::resp::args::Args;
use crate::resp::reply::{Protocol, Reply};
use crate::text::glob::glob_match;
use crate::text::number::parse_i64;
use std::io::Write;
use std::time::Duration;

/// The commands of this family.
pub static ROWS: &[CommandSpec] = &[CommandSpec {
    name: "debug",
    doc: Doc::new("server", "1.0.0", "By subcommand", "For tests of the server.").system(),
    arity: AtLeast(2),
    flags: Flags::ADMIN
        .and(Flags::NO_SCRIPT)
        .and(Flags::LOADING)
        .and(Flags::STALE)
        .and(Flags::PROTECTED),
    run: debug,
    ..CommandSpec::ROW
}];

const NOT_POSITIVE: CommandError = CommandError::new("ERR value is out of range, must be positive");
const NO_LOG: CommandError =
    CommandError::new("ERR The append-only file is off, so there is nothing to load");
const TOO_LONG: CommandError =
    CommandError::new("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

const NO_SUCH_DATABASE: CommandError = CommandError::new("ERR Out of range database");
const NO_HASH_TABLE: CommandError = CommandError::new(
    "ERR The value stored at the specified key is not represented using an hash table",
);
const RELOAD_OPTIONS: CommandError =
    CommandError::new("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.");
const NOT_A_THRESHOLD: CommandError =
    CommandError::new("ERR argument must be a memory value bigger than 1 and smaller than 4gb");
/// Not quite 4 GiB, as in Redis.
const PACKED_THRESHOLD_MAX_BYTES: u64 = (4 << 30) - (1 << 20);
const NO_PUSH: CommandError = CommandError::new("ERR RESP2 is not supported by this command");
const UNKNOWN_TYPE: CommandError = CommandError::new(
    "ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|\
     null|array|set|map|attrib|push|verbatim|true|false",
);

const HELP: &[&str] = &[
    "AOF-FLUSH-SLEEP <microsec>",
    "    Sleep ahead of each write to the append-only file, as a slow disk would.",
    "CHANGE-REPL-ID",
    "    Give the history of the data a new id, as INFO replication shows it.",
    "DIGEST",
    "    Output a hex signature representing the current DB content.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    Output a hex signature of the values of all the specified keys.",
    "HTSTATS <dbid>",
    "    Tell how the keys of a database lie in its table.",
    "HTSTATS-KEY <key>",
    "    The same for a value that is a hash table.",
    "LOADAOF",
    "    Flush the AOF buffers on disk and reload the AOF in memory.",
    "OBJECT <key>",
    "    Show low level info about `key` and associated value.",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Create <count> string keys named key:<num>. If <prefix> is specified then",
    "    it is used instead of the 'key' prefix. These are logged like any write.",
    "PAUSE-CRON <0|1>",
    "    Setting it to 1 stops what is done at intervals, but for what the append-only file needs.",
    "PROTOCOL <type>",
    "    Reply with a test value of the specified type. <type> can be: string,",
    "    integer, double, bignum, null, array, set, map, attrib, push, verbatim,",
    "    true, false.",
    "QUICKLIST-PACKED-THRESHOLD <size>",
    "    Taken for the sake of test suites; there are no such nodes.",
    "RELOAD [MERGE] [NOFLUSH] [NOSAVE]",
    "    Empty memory and load the append-only file again. What the options ask for is what the",
    "    file holds in any case.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Setting it to 0 disables expiring keys in background when they are not",
    "    accessed (otherwise the Redis behavior). Setting it to 1 reenables back the",
    "    default.",
    "SLEEP <seconds>",
    "    Stop the server for <seconds>. Decimals allowed.",
    "STRINGMATCH-LEN <pattern> <string>",
    "    Reply with 1 if the glob-style pattern matches the string, else with 0.",
];

/// As in Redis these are no subcommands of the table: a wrong number of arguments and an unknown
/// name are one error.
fn debug(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let is = |name: &str| options::is(&args[1], name);
    match args.len() {
        2 if is("help") => cx.help("DEBUG", HELP),
        2 if is("digest") => {
            let digest = Digest::of_keyspace(cx.keyspace);
            cx.reply.simple(digest.to_hex().as_bytes());
        }
        _ if is("digest-value") => digest_value(cx, args),
        _ if is("loadaof") => {
            check_writable(cx)?;
            return load_append_only_file(cx);
        }
        _ if is("reload") => {
            check_writable(cx)?;
            let known = |word| ["MERGE", "NOFLUSH", "NOSAVE"].iter().any(|o| options::is(word, o));
            if !args.from(2).all(known) {
                return Err(RELOAD_OPTIONS);
            }
            return load_append_only_file(cx);
        }
        3 if is("htstats") => return table_layout(cx, &args[2]),
        3 if is("htstats-key") => {
            if check_writable(cx).is_ok() {
                cx.expire_if_due(&args[2]);
            }
            let found = cx.keyspace.db(cx.session.db).get(&args[2]);
            match found {
                Some(_) => cx.registries.stats.keyspace_hits += 1,
                None => cx.registries.stats.keyspace_misses += 1,
            }
            return match found.ok_or(CommandError::NO_SUCH_KEY)?.value() {
                ValueRef::Int(_) | ValueRef::String(_) => Err(NO_HASH_TABLE),
            };
        }
        3 if is("protocol") => return test_value(&mut cx.reply, &args[2]),
        3 if is("pause-cron") => {
            cx.registries.debug.is_cron_paused = leading_number(&args[2]) != 0.0;
            cx.reply.ok();
        }
        3 if is("aof-flush-sleep") => {
            cx.registries.debug.log_write_delay_us = leading_number(&args[2]) as u64;
            cx.reply.ok();
        }
        4 if is("stringmatch-len") => {
            cx.reply.integer(i64::from(glob_match(&args[2], &args[3], false)));
        }
        3 if is("quicklist-packed-threshold") => {
            let bytes = memory_amount(options::c_text(&args[2]));
            if bytes.is_none_or(|bytes| bytes > PACKED_THRESHOLD_MAX_BYTES) {
                return Err(NOT_A_THRESHOLD);
            }
            cx.reply.ok();
        }
        2 if is("change-repl-id") => {
            let id: String =
                (0..5).map(|_| format!("{:08x}", cx.registries.random.next_u64() as u32)).collect();
            log::info!("Changing replication ID after receiving change-repl-id");
            cx.registries.debug.replication_id = Some(id);
            cx.reply.ok();
        }
        3 if is("object") => return object(cx, &args[2]),
        3..=5 if is("populate") => {
            check_writable(cx)?;
            return populate(cx, args);
        }
        3 if is("set-active-expire") => {
            cx.registries.active_expire = leading_number(&args[2]) != 0.0;
            cx.reply.ok();
        }
        3 if is("sleep") => {
            // To stop the whole server is just what this is for.
            let seconds = leading_number(&args[2]);
            std::thread::sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default());
            cx.reply.ok();
        }
        _ => {
            let name = &args[1];
            let name = &name[..name.len().min(128)];
            let name = options::c_text(name);
            let text = b"ERR unknown subcommand or wrong number of arguments for '";
            let text = [text, name, b"'. Try DEBUG HELP."].concat();
            return Err(CommandError::owned(text));
        }
    }
    Ok(())
}

/// DEBUG is served at any time, which is too early or too late for what changes the keyspace.
fn check_writable(cx: &Cx<'_>) -> CommandResult {
    match &cx.registries.write_refusal {
        _ if cx.registries.loading => Err(LOADING),
        Some(text) => Err(CommandError::owned(text.as_str())),
        None => Ok(()),
    }
}

/// The decimal number that `text` begins with, 0 if it begins with none, as C's `strtod` has it.
fn leading_number(text: &[u8]) -> f64 {
    const LONGEST: usize = 64;
    let text = text.trim_ascii_start();
    let text = &text[..text.len().min(LONGEST)];
    let is_part = |b: &u8| b.is_ascii_digit() || b"+-.eE".contains(b);
    let end = text.iter().position(|b| !is_part(b)).unwrap_or(text.len());
    let text = std::str::from_utf8(&text[..end]).unwrap_or_default();
    (0..=end).rev().find_map(|end| text.get(..end)?.parse().ok()).unwrap_or(0.0)
}

/// A key past its deadline still has a value here, as in Redis.
fn digest_value(cx: &mut Cx<'_>, args: &Args<'_>) {
    let db = cx.keyspace.db(cx.session.db);
    cx.reply.array(args.len() - 2);
    for key in args.from(2) {
        let digest = db.get(key).map_or(Digest::default(), Digest::of_value);
        cx.reply.simple(digest.to_hex().as_bytes());
    }
}

/// A reply of each type that the protocol has, for the tests of client libraries.
fn test_value(reply: &mut Reply<'_>, name: &[u8]) -> CommandResult {
    let is_resp3 = reply.protocol() == Protocol::Resp3;
    let is = |known: &str| options::is(name, known);
    match name {
        _ if is("string") => reply.bulk(b"Hello World"),
        _ if is("integer") => reply.integer(12_345),
        // Redis has it so: not meant to be the number that it looks like.
        _ if is("double") => reply.double(3_141.0 / 1_000.0),
        _ if is("bignum") => reply.big_number(b"1234567999999999999999999999999999999"),
        _ if is("null") => reply.null(),
        _ if is("array") => {
            reply.array(3);
            (0..3).for_each(|n| reply.integer(n));
        }
        _ if is("set") => {
            reply.set(3);
            (0..3).for_each(|n| reply.integer(n));
        }
        _ if is("map") => {
            reply.map(3);
            for n in 0..3 {
                reply.integer(n);
                reply.boolean(n == 1);
            }
        }
        _ if is("attrib") => {
            if is_resp3 {
                reply.attribute(1);
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.integer(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        _ if is("push") && !is_resp3 => return Err(NO_PUSH),
        _ if is("push") => {
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
            // A push answers nothing: whoever waits for the reply gets one.
            reply.bulk(b"Some real reply following the push reply");
        }
        _ if is("verbatim") => reply.verbatim(*b"txt", b"This is a verbatim\nstring"),
        _ if is("true") => reply.boolean(true),
        _ if is("false") => reply.boolean(false),
        _ => return Err(UNKNOWN_TYPE),
    }
    Ok(())
}

fn table_layout(cx: &mut Cx<'_>, index: &[u8]) -> CommandResult {
    let index = usize::try_from(options::integer(index)?).map_err(|_| NO_SUCH_DATABASE)?;
    if index >= cx.keyspace.databases() {
        return Err(NO_SUCH_DATABASE);
    }
    let text = layout_text(cx.keyspace.db(index));
    cx.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

/// Under Redis's headings.
fn layout_text(db: &Database) -> String {
    const NONE: &str = "No stats available for empty dictionaries\n";
    let layout = db.layout();
    let mut text = "[Dictionary HT]\nHash table 0 stats (main hash table):\n".to_owned();
    if db.is_empty() {
        text.push_str(NONE);
    } else {
        let buckets: usize = layout.by_fill.iter().sum();
        text.push_str(&format!(
            " table size: {buckets} buckets of {} in {} segments\n number of elements: {}\n \
             displaced by one bucket: {}\n stashed: {}\n Bucket fill distribution:\n",
            layout.by_fill.len() - 1,
            layout.segments,
            db.len(),
            layout.displaced,
            layout.stashed,
        ));
        for (fill, count) in layout.by_fill.iter().enumerate().filter(|(_, count)| **count > 0) {
            let percent = *count as f64 * 100.0 / buckets as f64;
            text.push_str(&format!("   {fill}: {count} ({percent:.2}%)\n"));
        }
    }
    text.push_str("[Expires HT]\nHash table 0 stats (main hash table):\n");
    match db.volatile_len() {
        0 => text.push_str(NONE),
        len => text.push_str(&format!(" ordered by deadline, number of elements: {len}\n")),
    }
    text
}

/// The server loads before it lets this reply leave.
fn load_append_only_file(cx: &mut Cx<'_>) -> CommandResult {
    if !cx.registries.config.appendonly {
        return Err(NO_LOG);
    }
    cx.act(Action::LoadAppendOnlyFile);
    cx.reply.ok();
    Ok(())
}

/// The line that test suites pick fields from. Values are never shared.
fn object(cx: &mut Cx<'_>, key: &[u8]) -> CommandResult {
    let db = cx.keyspace.db(cx.session.db);
    let entry = db.get(key).ok_or(CommandError::NO_SUCH_KEY)?;
    let line = format!(
        "Value at:{:p} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}",
        entry.key().as_ptr(),
        entry.encoding().name(),
        serialized_bytes(entry.value()),
        entry.stamp().bits(),
        cx.keyspace.recency.idle_seconds(entry.stamp()),
    );
    cx.reply.simple(line.as_bytes());
    Ok(())
}

/// How long the value is in an RDB file that compresses nothing.
fn serialized_bytes(value: ValueRef<'_>) -> usize {
    /// Longer texts are not tried as integers.
    const INTEGER_TEXT_MAX_BYTES: usize = 11;
    let mut digits = itoa::Buffer::new();
    let text = value.bytes(&mut digits);
    let integer = match value {
        ValueRef::Int(n) => Some(n),
        ValueRef::String(text) if text.len() <= INTEGER_TEXT_MAX_BYTES => parse_i64(text),
        ValueRef::String(_) => None,
    };
    match integer {
        Some(n) if i8::try_from(n).is_ok() => 2,
        Some(n) if i16::try_from(n).is_ok() => 3,
        Some(n) if i32::try_from(n).is_ok() => 5,
        _ => length_bytes(text.len()) + text.len(),
    }
}

/// How long an RDB file's length prefix is.
fn length_bytes(len: usize) -> usize {
    match len {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// Creates `<prefix>:0`, `<prefix>:1`, ... where there are no such keys. Unlike Redis it logs
/// them: what a client can read shall be there after a restart.
fn populate(cx: &mut Cx<'_>, args: &Args<'_>) -> CommandResult {
    /// Redis makes the names in a buffer of so many bytes, a NUL included.
    const NAME_MAX_BYTES: usize = 127;
    /// Pairs a record: large enough to make records' own cost vanish.
    const PAIRS_PER_RECORD: usize = 256;
    let positive = |text: &[u8]| {
        let number = parse_i64(text).and_then(|n| usize::try_from(n).ok());
        number.ok_or(NOT_POSITIVE)
    };
    let count = positive(&args[2])?;
    let prefix = options::c_text(args.get(3).unwrap_or(b"key"));
    let size = args.get(4).map_or(Ok(0), positive)?;
    if size as u64 > cx.registries.config.proto_max_bulk_bytes {
        return Err(TOO_LONG);
    }
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for index in 0..count {
        let mut key = prefix.to_vec();
        let mut value = Vec::with_capacity(size.max(24));
        let written = write!(key, ":{index}").and_then(|()| write!(value, "value:{index}"));
        debug_assert!(written.is_ok(), "a vector takes all that is written to it");
        key.truncate(NAME_MAX_BYTES);
        if size > 0 {
            value.resize(size, 0);
        }
        if cx.exists(&key) {
            continue;
        }
        cx.db().set(&key, NewValue::Bytes(&value), Deadline::Clear);
        cx.changed(&key);
        pairs.push((key, value));
        if pairs.len() == PAIRS_PER_RECORD {
            log_pairs(cx, &mut pairs);
        }
    }
    log_pairs(cx, &mut pairs);
    cx.reply.ok();
    Ok(())
}

fn log_pairs(cx: &mut Cx<'_>, pairs: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    if pairs.is_empty() {
        return;
    }
    let words = pairs.iter().flat_map(|(key, value)| [key.as_slice(), value.as_slice()]);
    let words: Vec<&[u8]> = std::iter::once(&b"MSET"[..]).chain(words).collect();
    cx.propagate_as(&words);
    pairs.clear();
}

#[cfg(test)]
mod tests {
    use super::{super::string, super::transaction, ROWS, leading_number};
    use crate::config::DebugCommand;
    use crate::engine::effects::Action;
    use crate::engine::testing::Bench;
    use crate::resp::reply::Protocol;

    fn bench() -> Bench {
        Bench::new(&[ROWS, string::ROWS, transaction::ROWS])
    }

    #[test]
    fn who_may_debug_is_a_matter_of_configuration() {
        let refused = "-ERR DEBUG command not allowed. If the enable-debug-command option is set \
                       to \"local\", you can run it from a local connection, otherwise you need \
                       to set this option in the configuration file, and then restart the server.";
        for (allowed, is_local, runs) in [
            (DebugCommand::No, true, false),
            (DebugCommand::Local, false, false),
            (DebugCommand::Local, true, true),
            (DebugCommand::Yes, false, true),
        ] {
            let mut bench = bench();
            bench.registries.config.enable_debug_command = allowed;
            bench.session().is_local = is_local;
            let reply = bench.send("debug set-active-expire 1");
            assert_eq!(reply, if runs { "+OK" } else { refused }, "{allowed:?} {is_local}");
        }
    }

    #[test]
    fn unknown_names_and_wrong_numbers_are_one_error() {
        let mut bench = bench();
        for (line, name) in [
            ("debug foo", "foo"),
            ("debug sleep", "sleep"),
            ("debug OBJECT", "OBJECT"),
            ("debug object a b", "object"),
            ("debug digest x", "digest"),
            ("debug populate", "populate"),
            ("debug populate 3 pre 4 5", "populate"),
            ("debug help x", "help"),
            ("debug \"a\\x00b\"", "a"),
        ] {
            let error = "-ERR unknown subcommand or wrong number of arguments for";
            assert_eq!(bench.send(line), format!("{error} '{name}'. Try DEBUG HELP."), "{line}");
        }
    }

    #[test]
    fn object_tells_encoding_and_length() {
        let mut bench = bench();
        for (value, expected) in [
            ("1", "encoding:int serializedlength:2"),
            ("-129", "encoding:int serializedlength:3"),
            ("70000", "encoding:int serializedlength:5"),
            ("12345678901", "encoding:int serializedlength:12"),
            ("hello", "encoding:embstr serializedlength:6"),
        ] {
            bench.run(&[b"set", b"k", value.as_bytes()]);
            let line = bench.send("debug object k");
            assert!(line.starts_with("+Value at:0x"), "{line}");
            let fields = format!(" refcount:1 {expected} lru:");
            assert!(line.contains(&fields), "{line}");
            assert!(line.ends_with(" lru_seconds_idle:0"), "{line}");
        }
        assert_eq!(bench.send("debug object nosuch"), "-ERR no such key");
    }

    #[test]
    fn digest_value_answers_for_each_key() {
        let mut bench = bench();
        bench.send("set a 1");
        let (a, none) = ("b4fc66738120fba0b5aa500ab5c2bf89cea1c5da", "0".repeat(40));
        assert_eq!(bench.send("debug digest-value a nosuch a"), format!("*3 +{a} +{none} +{a}"));
        assert_eq!(bench.send("debug digest-value"), "*0");
        assert_eq!(bench.send("debug digest"), "+943d800368fb9c0e951138f1bc0e313ac769d91f");
    }

    #[test]
    fn populate_makes_what_is_missing_and_logs_it() {
        let mut bench = bench();
        bench.send("set p:1 mine");
        bench.log();
        assert_eq!(bench.send("debug populate 3 p"), "+OK");
        assert_eq!(bench.log(), ["MSET p:0 value:0 p:2 value:2"]);
        assert_eq!(bench.send("debug populate 3 p"), "+OK");
        assert_eq!(bench.log(), Vec::<String>::new());
        assert_eq!(bench.send("get p:1"), "$4 mine");
        bench.send("debug populate 1 q 3");
        bench.send("debug populate 1 r 10");
        assert_eq!(bench.send("mget q:0 r:0"), "*2 $3 val $10 value:0\\x00\\x00\\x00");
    }

    #[test]
    fn what_populate_made_is_there_after_a_replay() {
        let (mut bench, mut other) = (bench(), bench());
        bench.send("set key:7 mine");
        bench.send("debug populate 1000");
        bench.replay_into(&mut other);
        assert_eq!(other.contents(), bench.contents());
        assert_eq!(other.contents().len(), 1000);
    }

    #[test]
    fn populate_refuses_what_is_no_count_or_size() {
        let mut bench = bench();
        let refused = "-ERR value is out of range, must be positive";
        for line in ["debug populate x", "debug populate -1", "debug populate 2 r x"] {
            assert_eq!(bench.send(line), refused, "{line}");
        }
        assert_eq!(
            bench.send("debug populate 1 k 536870913"),
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"
        );
        assert!(bench.contents().is_empty());
    }

    #[test]
    fn loading_again_is_the_servers_work_and_needs_a_log() {
        let mut bench = bench();
        assert_eq!(bench.send("debug loadaof"), "+OK");
        assert!(matches!(bench.actions[..], [Action::LoadAppendOnlyFile]));
        bench.registries.config.appendonly = false;
        assert!(bench.send("debug loadaof").starts_with("-ERR The append-only file is off"));
        assert_eq!(bench.actions.len(), 1);
    }

    #[test]
    fn nothing_is_changed_while_the_log_loads_or_has_failed() {
        let mut bench = bench();
        bench.registries.loading = true;
        for line in ["debug populate 1", "debug loadaof"] {
            assert_eq!(bench.send(line), "-LOADING Redis is loading the dataset in memory");
        }
        bench.registries.loading = false;
        bench.registries.write_refusal = Some("MISCONF x".to_owned());
        for line in ["debug populate 1", "debug loadaof"] {
            assert_eq!(bench.send(line), "-MISCONF x");
        }
        assert_eq!(bench.send("debug digest-value"), "*0");
        assert!(bench.actions.is_empty() && bench.contents().is_empty());
    }

    #[test]
    fn active_expiry_is_switched_as_by_atoi() {
        let mut bench = bench();
        for (value, active) in [("0", false), ("1", true), ("x", false), ("2x", true)] {
            bench.run(&[b"debug", b"set-active-expire", value.as_bytes()]);
            assert_eq!(bench.registries.active_expire, active, "{value}");
        }
    }

    #[test]
    fn numbers_end_where_they_cease_to_be_numbers() {
        for (text, number) in [
            ("0.25", 0.25),
            (" 1.5e1x", 15.0),
            ("1e", 1.0),
            ("-2", -2.0),
            ("+.5", 0.5),
            ("abc", 0.0),
            ("", 0.0),
            ("nan", 0.0),
            ("--1", 0.0),
        ] {
            assert_eq!(leading_number(text.as_bytes()), number, "{text:?}");
        }
    }

    #[test]
    fn every_type_of_the_protocol_has_a_test_value() {
        let mut bench = bench();
        for (name, resp2, resp3) in [
            ("string", "$11 Hello World", "$11 Hello World"),
            ("double", "$5 3.141", ",3.141"),
            ("null", "$-1", "_"),
            ("SET", "*3 :0 :1 :2", "~3 :0 :1 :2"),
            ("map", "*6 :0 :0 :1 :1 :2 :0", "%3 :0 #f :1 #t :2 #f"),
            (
                "attrib",
                "$39 Some real reply following the attribute",
                "|1 $14 key-popularity *2 $7 key:123 :90 $39 Some real reply following the \
                 attribute",
            ),
            (
                "push",
                "-ERR RESP2 is not supported by this command",
                ">2 $16 server-cpu-usage :42 $40 Some real reply following the push reply",
            ),
        ] {
            bench.session().protocol = Protocol::Resp2;
            assert_eq!(bench.send(&format!("debug protocol {name}")), resp2);
            assert_eq!(bench.resp3().send(&format!("debug protocol {name}")), resp3);
        }
        assert!(bench.send("debug protocol x").starts_with("-ERR Wrong protocol type name."));
    }

    #[test]
    fn htstats_tells_how_keys_lie() {
        let mut bench = bench();
        let empty = bench.send("debug htstats 3");
        assert_eq!(empty.matches("No stats available for empty dictionaries").count(), 2);
        bench.send("set a 1 px 100");
        let text = bench.send("debug htstats 0");
        assert!(text.contains("number of elements: 1\\n displaced by one bucket: 0"), "{text}");
        assert!(text.contains("0: 63 (98.44%)\\n   1: 1 (1.56%)\\n[Expires HT]"), "{text}");
        assert!(text.ends_with("ordered by deadline, number of elements: 1\\n"), "{text}");
        assert_eq!(bench.send("debug htstats 16"), "-ERR Out of range database");
        assert_eq!(bench.send("debug htstats -1"), "-ERR Out of range database");
        assert!(bench.send("debug htstats-key a").starts_with("-ERR The value stored at"));
        assert_eq!(bench.send("debug htstats-key b"), "-ERR no such key");
    }

    #[test]
    fn reload_takes_redis_options_and_loads_the_log() {
        let mut bench = bench();
        assert!(bench.send("debug reload x").starts_with("-ERR DEBUG RELOAD only supports"));
        assert!(bench.actions.is_empty());
        assert_eq!(bench.send("debug reload merge NOFLUSH nosave"), "+OK");
        assert!(matches!(bench.actions[..], [Action::LoadAppendOnlyFile]));
    }

    #[test]
    fn switches_are_set_as_by_atoi() {
        let mut bench = bench();
        assert_eq!(bench.send("debug pause-cron 1"), "+OK");
        assert_eq!(bench.send("debug aof-flush-sleep 250"), "+OK");
        let debug = &bench.registries.debug;
        assert_eq!((debug.is_cron_paused, debug.log_write_delay_us), (true, 250));
        assert_eq!(bench.send("debug pause-cron x"), "+OK");
        assert!(!bench.registries.debug.is_cron_paused);
        assert_eq!(bench.send("debug stringmatch-len a*c abbc"), ":1");
        assert_eq!(bench.send("debug stringmatch-len a*c abb"), ":0");
        for (size, taken) in [("1kb", true), ("0", true), ("4gb", false), ("-1", false)] {
            let reply = bench.send(&format!("debug quicklist-packed-threshold {size}"));
            assert_eq!(reply == "+OK", taken, "{size}: {reply}");
        }
        assert_eq!(bench.send("debug change-repl-id"), "+OK");
        assert_eq!(bench.registries.debug.replication_id.as_ref().map(String::len), Some(40));
    }
}
