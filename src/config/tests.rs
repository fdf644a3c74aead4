use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tempfile::TempDir;

use super::flags::help;
use super::parameters::find;
use super::value::Kind;
use super::*;

const CONTEXT: SetContext = SetContext { client_is_local: true, loading: false };

fn start(args: &[&str]) -> Result<Startup, StartupError> {
    parse_command_line(args.iter().map(OsString::from))
}

fn run(args: &[&str]) -> (Config, Vec<&'static str>) {
    match start(args) {
        Ok(Startup::Run { config, notices, .. }) => (*config, notices),
        other => panic!("{args:?}: {other:?}"),
    }
}

fn refused(args: &[&str]) -> String {
    let text = start(args).expect_err("must be refused").to_string();
    assert!(!text.contains('\n'), "one line: {text}");
    text
}

fn shown(config: &Config, name: &str) -> String {
    String::from_utf8(find(name.as_bytes()).unwrap().1.show(config)).unwrap()
}

fn set(config: &mut Config, pairs: &[(&str, &str)]) -> Result<Vec<&'static str>, String> {
    let pairs: Vec<(&[u8], &[u8])> =
        pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let changed = set_many(config, &pairs, CONTEXT);
    changed
        .map(|list| list.iter().map(|p| p.name).collect())
        .map_err(|text| String::from_utf8(text).unwrap())
}

fn get(config: &Config, patterns: &[&str]) -> Vec<(String, String)> {
    let patterns: Vec<&[u8]> = patterns.iter().map(|p| p.as_bytes()).collect();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let found = get_matching(config, &patterns, include::matches);
    found.into_iter().map(|(name, value)| (text(name), text(value))).collect()
}

struct Conf {
    dir: TempDir,
}

impl Conf {
    fn new(files: &[(&str, &str)]) -> Conf {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            // `@` stands for the directory, for lines that include others.
            let text = text.replace('@', dir.path().to_str().unwrap());
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Conf { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }
}

// The table

#[test]
fn names_are_unique_and_in_lower_case() {
    let mut names: Vec<&str> = PARAMETERS.iter().flat_map(Parameter::names).collect();
    assert!(names.iter().all(|name| *name == name.to_ascii_lowercase() && name.len() > 1));
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn every_default_is_accepted_and_is_what_a_new_configuration_shows() {
    let config = Config::default();
    for parameter in PARAMETERS.iter().filter(|p| p.is_visible()) {
        let mut other = Config::default();
        parameter.set_default(&mut other).unwrap_or_else(|e| panic!("{}: {e}", parameter.name));
        assert_eq!(parameter.show(&other), parameter.show(&config), "{}", parameter.name);
        assert_eq!(parameter.show(&config), parameter.default_shown(), "{}", parameter.name);
    }
}

#[test]
fn defaults_make_a_durable_server() {
    let config = Config::default();
    assert_eq!((config.port, config.appendonly, config.aof_seals), (7379, true, true));
    assert_eq!(config.appendfsync, FsyncPolicy::Everysec);
    assert_eq!(config.appendfilename, Path::new("appendonly.aof"));
    assert_eq!(config.auto_aof_rewrite_min_bytes, 64 << 20);
    let bind: Vec<String> = config.bind.iter().map(BindAddress::to_string).collect();
    assert_eq!(bind, ["*", "-::*"]);
    assert!(!config.bind[0].optional && config.bind[1].optional);
    assert_eq!(config.bind[1].host, BindHost::AnyIpv6);
    let replica = config.client_output_buffer_limits.replica;
    let expected =
        OutputBufferLimit { hard_bytes: 256 << 20, soft_bytes: 64 << 20, soft_seconds: 60 };
    assert_eq!(replica, expected);
}

/// Values of a kind at and within its bounds.
fn good_values(kind: Kind) -> Vec<String> {
    let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    match kind {
        Kind::YesNo => owned(&["yes", "NO"]),
        Kind::Integer { min, max } => vec![min.to_string(), max.to_string()],
        Kind::Octal { max } => vec!["0".to_owned(), format!("{max:o}")],
        Kind::Memory { min, max } => vec![min.to_string(), max.to_string(), "3mb".to_owned()],
        Kind::MemoryOrPercent => owned(&["0", "5%", "100%", "7kb", "0%"]),
        Kind::Choice { names, .. } => names.iter().map(|n| n.to_uppercase()).collect(),
        Kind::ShutdownOptions => owned(&["default", "now nosave", "save force", "default now"]),
        // A list of processors takes no other text, and numbers are text to all others.
        Kind::Text { .. } => owned(&["1", "23"]),
        Kind::Binary => owned(&["", "a b"]),
        Kind::EventClasses => owned(&["", "KEA", "Kg$lszhxet", "gn", "A", "Km"]),
        Kind::SavePoints => owned(&["", "60 1", "60 1 70 0", "+60 01"]),
        Kind::OutputBufferLimits => {
            owned(&["", "normal 1kb 2KB 3", "SLAVE 1 2 3 replica 4 5 6", "pubsub 0 0 0"])
        }
        Kind::OomScores => owned(&["0 0 0", "-2000 2000 7"]),
        Kind::Percentiles => owned(&["", "0 0.1 99.12345678 1e1 100"]),
        Kind::Addresses => owned(&["", "127.0.0.1 -::1", "* -::* host"]),
        Kind::ReplicaOf => owned(&["no one", "host 6379"]),
        Kind::Directive { .. } => Vec::new(),
    }
}

#[test]
fn what_config_get_shows_config_set_takes_and_changes_nothing() {
    let mut config = Config::default();
    for parameter in PARAMETERS.iter().filter(|p| p.mutability == Mutability::Mutable) {
        let mut values = vec![parameter.default.to_owned()];
        let text_with_rules = matches!(parameter.name, "proc-title-template");
        values.extend(good_values(parameter.kind).into_iter().filter(|_| !text_with_rules));
        for value in values {
            let name = parameter.name;
            set(&mut config, &[(name, &value)]).unwrap_or_else(|e| panic!("{value:?}: {e}"));
            let shown = shown(&config, name);
            let changed = set(&mut config, &[(name, &shown)]);
            assert_eq!(changed, Ok(Vec::new()), "{name} {value:?} {shown:?}");
            assert_eq!(String::from_utf8(parameter.show(&config)).unwrap(), shown, "{name}");
        }
    }
}

#[test]
fn every_bound_of_a_field_fits_its_type() {
    for parameter in PARAMETERS.iter().filter(|p| p.means_something()) {
        for value in good_values(parameter.kind) {
            let mut config = Config::default();
            let set = parameter.set_text(&mut config, value.as_bytes());
            assert!(set.is_ok(), "{} {value}: {set:?}", parameter.name);
            let shown = parameter.show(&config);
            let same = match parameter.kind {
                Kind::Choice { .. } | Kind::YesNo => shown.eq_ignore_ascii_case(value.as_bytes()),
                Kind::Integer { .. } if parameter.name != "hz" => shown == value.as_bytes(),
                _ => true,
            };
            assert!(same, "{} {value}: {}", parameter.name, shown.escape_ascii());
        }
    }
}

// CONFIG GET

#[test]
fn config_get_answers_each_name_once_as_it_was_spelt() {
    let config = Config::default();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(get(&config, &["HZ", "hz", "h[y-z]"]), [pair("HZ", "10")]);
    assert_eq!(get(&config, &["H[YZ]"]), [pair("hz", "10")]);
    assert_eq!(get(&config, &["nosuch", ""]), []);
    let expected = [pair("list-max-ziplist-size", "-2"), pair("list-max-listpack-size", "-2")];
    assert_eq!(get(&config, &["list-max-ziplist-size", "list-max-listpack-size"]), expected);
    assert_eq!(get(&config, &["*slave-priority"]), [pair("slave-priority", "100")]);
}

#[test]
fn hidden_parameters_answer_to_their_names_alone_and_directives_not_at_all() {
    let config = Config::default();
    assert_eq!(get(&config, &["watchdog-perio?"]), []);
    assert_eq!(get(&config, &["watchdog-period"]).len(), 1);
    assert_eq!(get(&config, &["user", "include", "rename-command", "loadmodule"]), []);
}

// CONFIG SET

#[test]
fn config_set_takes_all_pairs_or_none_and_says_what_changed() {
    let mut config = Config::default();
    let changed = set(&mut config, &[("HZ", "20"), ("appendfsync", "ALWAYS"), ("timeout", "0")]);
    assert_eq!(changed, Ok(vec!["hz", "appendfsync"]));
    assert_eq!((config.hz, config.appendfsync), (20, FsyncPolicy::Always));

    let before = format!("{config:?}");
    let refused = set(&mut config, &[("hz", "30"), ("maxclients", "0")]);
    let expected = "ERR CONFIG SET failed (possibly related to argument 'maxclients') - \
                    argument must be between 1 and 4294967295 inclusive";
    assert_eq!(refused, Err(expected.to_owned()));
    assert_eq!(format!("{config:?}"), before);
}

#[test]
fn an_alias_and_its_name_are_no_duplicates_and_count_as_one_change() {
    let mut config = Config::default();
    let pairs = [("list-max-ziplist-size", "5"), ("list-max-listpack-size", "7")];
    assert_eq!(set(&mut config, &pairs), Ok(vec!["list-max-listpack-size"]));
    assert_eq!(shown(&config, "list-max-ziplist-size"), "7");
}

#[test]
fn numbers_that_wrap_around_in_redis_are_refused() {
    let mut config = Config::default();
    for (name, value, why) in [
        ("maxmemory", "18446744073709551615gb", "argument must be a memory value"),
        ("save", "60 2147483648", "Invalid save parameters"),
        ("maxmemory-clients", "99999999999999999999", "must be less or equal to 100"),
        ("client-output-buffer-limit", "normal 0 0 4294967296", "buffer limit configuration."),
    ] {
        let before = shown(&config, name);
        let refused = set(&mut config, &[(name, value)]).unwrap_err();
        assert!(refused.ends_with(why), "{name}: {refused}");
        assert_eq!(shown(&config, name), before);
    }
}

#[test]
fn output_buffer_limits_keep_the_classes_that_are_not_named() {
    let mut config = Config::default();
    set(&mut config, &[("client-output-buffer-limit", "replica 1kb 2k 3")]).unwrap();
    let expected = "normal 0 0 0 slave 1024 2000 3 pubsub 33554432 8388608 60";
    assert_eq!(shown(&config, "client-output-buffer-limit"), expected);
}

#[test]
fn protected_parameters_obey_enable_protected_configs() {
    let pairs: &[(&[u8], &[u8])] = &[(b"dbfilename", b"x.rdb")];
    for (allowed, client_is_local, expected) in
        [("no", true, false), ("local", true, true), ("local", false, false), ("yes", false, true)]
    {
        let (mut config, _) = run(&["--enable-protected-configs", allowed]);
        let context = SetContext { client_is_local, loading: false };
        assert_eq!(set_many(&mut config, pairs, context).is_ok(), expected, "{allowed}");
    }
}

#[test]
fn appendonly_cannot_be_switched_while_loading() {
    let context = SetContext { client_is_local: true, loading: true };
    let mut config = Config::default();
    let refused = set_many(&mut config, &[(b"appendonly", b"no")], context).unwrap_err();
    assert_eq!(refused, b"LOADING Redis is loading the dataset in memory");
    assert!(config.appendonly);
    assert!(set_many(&mut config, &[(b"hz", b"11")], context).is_ok());
}

#[test]
fn passwords_do_not_show_in_debug_output() {
    let (config, _) = run(&["--requirepass", "s3cret", "--masterauth", "s3cret"]);
    assert_eq!(config.requirepass.as_deref(), Some(b"s3cret".as_slice()));
    assert!(!format!("{config:?}").contains("s3cret"));
}

/// redis-server on a unix socket in a directory of its own; none where it is not installed.
struct Redis {
    child: Child,
    stream: UnixStream,
    _dir: TempDir,
}

impl Redis {
    fn start() -> Option<Redis> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let mut child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket", socket.to_str()?, "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Ok(stream) = UnixStream::connect(&socket) {
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                return Some(Redis { child, stream, _dir: dir });
            }
            assert!(child.try_wait().unwrap().is_none(), "redis-server left");
            assert!(Instant::now() < deadline, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn send(&mut self, words: &[&[u8]]) {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).into_bytes());
            request.extend_from_slice(word);
            request.extend(b"\r\n");
        }
        self.stream.write_all(&request).unwrap();
    }

    fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            self.stream.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        line
    }

    fn config_set(&mut self, pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut words: Vec<&[u8]> = vec![b"CONFIG", b"SET"];
        words.extend(pairs.iter().flat_map(|(name, value)| [*name, *value]));
        self.send(&words);
        self.line()
    }

    fn config_get(&mut self, pattern: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.send(&[b"CONFIG", b"GET", pattern]);
        let length = |line: Vec<u8>| String::from_utf8(line[1..].to_vec()).unwrap();
        let count: usize = length(self.line()).parse().unwrap();
        let mut bulk = || {
            let len: usize = length(self.line()).parse().unwrap();
            let mut bytes = vec![0; len + 2];
            self.stream.read_exact(&mut bytes).unwrap();
            bytes.truncate(len);
            bytes
        };
        (0..count / 2).map(|_| (bulk(), bulk())).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // A server that has left already needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Parameters whose change redis-server would put into force on the spot, to its harm or the
/// machine's, or whose answer depends on how it was built.
const NOT_COMPARED: &[&str] = &[
    "requirepass",
    "port",
    "bind",
    "tls-port",
    "tls-replication",
    "tls-cluster",
    "activedefrag",
    "oom-score-adj",
    "repl-backlog-size",
    "appendonly",
    "maxclients",
    "watchdog-period",
];

/// Values that are wrong for this kind or that, or odd.
const ODD_VALUES: &[&[u8]] = &[
    b"",
    b" ",
    b"x",
    b"yes",
    b"No",
    b"0",
    b"-0",
    b"007",
    b"+1",
    b" 1",
    b"1 ",
    b"-1",
    b"2147483647",
    b"2147483648",
    b"9223372036854775807",
    b"9223372036854775808",
    b"99999999999999999999",
    b"1.5gb",
    b"1KB",
    b"1gB",
    b"kb",
    b"-1kb",
    b"5%",
    b"0%",
    b"101%",
    b"-5%",
    b"05%",
    b"%",
    b"1 2",
    b"1  2",
    b"1 2 3",
    b"1 2 3 4",
    b"-2000 0 2000",
    b"1 2 2001",
    b"normal 1 2",
    b"normal 1 2 3",
    b"normal 1 2 3 ",
    b"REPLICA 1kb 2mb 3 slave 4 5 6",
    b"master 1 2 3",
    b"normal x 2 3",
    b"normal 1 2 -3",
    b"0 50 99.999 1e2",
    b"50 100.5",
    b"50 -1",
    b"KEA",
    b"KEAm",
    b"g$lshzxetd",
    b"gnd",
    b"Kq",
    b"save now",
    b"save nosave",
    b"DEFAULT force",
    b"{title}",
    b"{",
    b"{nosuch}",
    b"a/b",
    b"a_b",
    b"localhost",
    b"always",
    b"allkeys-lru",
    b"relative",
    b"local",
    b"x\0y",
    b"yes\0y",
    b"1\0",
    b"1mb\0",
    b"\xff",
    b"a\r\nb",
];

/// Sets every mutable parameter to every odd value on both servers and compares the answers, and
/// the values afterwards. What differs knowingly is told below.
#[test]
fn config_set_and_get_answer_as_redis_does() {
    let Some(mut redis) = Redis::start() else {
        eprintln!("SKIPPED: redis-server is not installed");
        return;
    };
    let theirs = redis.config_get(b"*");
    let mut config = Config::default();
    let names: Vec<&str> = PARAMETERS
        .iter()
        .flat_map(|p| p.names().filter(move |_| p.mutability == Mutability::Mutable))
        .filter(|name| theirs.iter().any(|(known, _)| known == name.as_bytes()))
        .filter(|name| !NOT_COMPARED.contains(name))
        .collect();
    assert!(names.len() > 100, "{}", names.len());
    for name in names {
        // Both start from the same value, whatever the default is.
        let seed = shown(&config, name);
        redis.config_set(&[(name.as_bytes(), seed.as_bytes())]);
        for value in ODD_VALUES {
            // Redis takes it for minus one, and so for one percent.
            if name == "maxmemory-clients" && *value == b"99999999999999999999" {
                continue;
            }
            let pair: &[(&[u8], &[u8])] = &[(name.as_bytes(), value)];
            let theirs = redis.config_set(pair);
            let mut ours = match set_many(&mut config, pair, CONTEXT) {
                Ok(_) => b"+OK".to_vec(),
                Err(text) => [b"-", text.as_slice()].concat(),
            };
            let text = String::from_utf8_lossy(&theirs).into_owned();
            // Redis 7.2 has one level more.
            if name == "loglevel" && text.contains("notice, warning") {
                ours.truncate(ours.len() - ", nothing".len());
            }
            let what = format!("{name} {}", value.escape_ascii());
            assert_eq!(String::from_utf8_lossy(&ours), text, "{what}");
            let (theirs, ours) = (redis.config_get(name.as_bytes()), shown_bytes(&config, name));
            assert_eq!(
                ours.escape_ascii().to_string(),
                theirs[0].1.escape_ascii().to_string(),
                "{what}"
            );
        }
    }
}

fn shown_bytes(config: &Config, name: &str) -> Vec<u8> {
    find(name.as_bytes()).unwrap().1.show(config)
}

#[test]
fn config_set_refuses_names_as_redis_does() {
    let Some(mut redis) = Redis::start() else {
        eprintln!("SKIPPED: redis-server is not installed");
        return;
    };
    let cases: &[&[(&[u8], &[u8])]] = &[
        &[(b"nosuch", b"1")],
        &[(b"nosuch", b"1"), (b"databases", b"1")],
        &[(b"databases", b"1"), (b"nosuch", b"1")],
        &[(b"hz", b"x"), (b"nosuch", b"1")],
        &[(b"hz", b"10"), (b"HZ", b"20")],
        &[(b"hz", b"10"), (b"hz", b"20"), (b"DATABASES", b"1")],
        &[(b"hz", b"11"), (b"maxmemory-samples", b"0")],
        &[(b"list-max-ziplist-size", b"x")],
        &[(b"slaveof", b"no one")],
        &[(b"LogFile", b"x")],
        &[(b"dbfilename", b"x")],
        &[(b"user", b"x")],
        &[(b"rename-command", b"x")],
        &[(b"", b"")],
        &[(b"a\r\nb\0c", b"1")],
        &[(b"\xff\xfe", b"1")],
        &[(b"maxclients", b"0")],
        &[(b"maxclients", b"4294967296")],
        &[(b"port", b"65536")],
        &[(b"bind", b"a b c d e f g h i j k l m n o p q")],
        &[(b"appendonly", b"maybe")],
        &[(b"list-max-ziplist-size", b"5"), (b"list-max-listpack-size", b"7")],
    ];
    for pairs in cases {
        let theirs = redis.config_set(pairs);
        let ours = match set_many(&mut Config::default(), pairs, CONTEXT) {
            Ok(_) => b"+OK".to_vec(),
            Err(text) => [b"-", text.as_slice()].concat(),
        };
        assert_eq!(ours.escape_ascii().to_string(), theirs.escape_ascii().to_string());
    }
}

#[test]
fn config_get_knows_every_name_of_redis_with_its_default() {
    let Some(mut redis) = Redis::start() else {
        eprintln!("SKIPPED: redis-server is not installed");
        return;
    };
    // What differs on purpose, or was given to redis-server on its command line.
    let own =
        ["port", "appendonly", "enable-debug-command", "dir", "unixsocket", "save", "disable-thp"];
    let config = Config::default();
    for (name, value) in redis.config_get(b"*") {
        let name = String::from_utf8(name).unwrap();
        let known = get(&config, &[&name]);
        assert_eq!(known.len(), 1, "{name} is unknown");
        if !own.contains(&name.as_str()) {
            assert_eq!(known[0].1.as_bytes(), value, "{name}");
        }
    }
}

// Configuration files

proptest! {
    #[test]
    fn no_value_makes_a_parameter_panic(value in proptest::collection::vec(any::<u8>(), 0..24)) {
        let mut config = Config::default();
        for parameter in PARAMETERS {
            if parameter.set_text(&mut config, &value).is_ok() {
                let shown = parameter.show(&config);
                let again = parameter.set_text(&mut config, &shown);
                prop_assert!(again.is_ok() || !parameter.is_visible(), "{}", parameter.name);
            }
        }
    }
}

#[test]
fn a_file_is_read_with_comments_quotes_and_units_and_the_last_line_wins() {
    let conf = Conf::new(&[(
        "a.conf",
        "# comment\n\n  port 1 \r\n\tHZ 20\nport 2\nlogfile \"a b\"\nrequirepass 'x y'\n\
         auto-aof-rewrite-min-size 5MB\nbind 127.0.0.1 -::1\nunixsocketperm 0700\n\
         client-output-buffer-limit normal 1kb 2kb 3\nappendfilename \"x.aof\"\n\
         save 60 1\nsave 70 2\npidfile \"\"",
    )]);
    let (config, notices) = run(&[&conf.path("a.conf")]);
    assert_eq!((config.port, config.hz, config.unixsocketperm), (2, 20, 0o700));
    assert_eq!(config.logfile.as_deref(), Some(Path::new("a b")));
    assert_eq!(config.requirepass.as_deref(), Some(b"x y".as_slice()));
    assert_eq!(config.auto_aof_rewrite_min_bytes, 5 << 20);
    assert_eq!(config.client_output_buffer_limits.normal.hard_bytes, 1024);
    assert_eq!(shown(&config, "bind"), "127.0.0.1 -::1");
    assert_eq!(shown(&config, "save"), "60 1 70 2");
    assert_eq!(config.pidfile, None);
    assert_eq!(notices, ["save"]);
}

#[test]
fn files_include_others_in_place() {
    let conf = Conf::new(&[
        ("a.conf", "port 1\ninclude @/b.conf\nhz 7\ninclude @/d/*.conf\ninclude @/[xy].inc\n"),
        ("b.conf", "port 2\nhz 6\n"),
        ("x.inc", "timeout 1\n"),
        ("y.inc", "timeout 2\n"),
    ]);
    let (config, _) = run(&[&conf.path("a.conf")]);
    assert_eq!((config.port, config.hz, config.timeout_s), (2, 7, 2));
    let (config, _) = run(&["--include", &conf.path("b.conf"), "--hz", "9"]);
    assert_eq!((config.port, config.hz), (2, 9));
}

#[test]
fn a_chain_of_includes_that_does_not_end_is_refused() {
    let conf = Conf::new(&[("a.conf", "include @/b.conf"), ("b.conf", "include @/./a.conf")]);
    let text = refused(&[&conf.path("a.conf")]);
    assert!(text.ends_with("a.conf': it includes itself"), "{text}");

    let names: Vec<String> = (0..40).map(|i| format!("{i}.conf")).collect();
    let texts: Vec<String> = (1..41).map(|i| format!("include @/{i}.conf")).collect();
    let files = names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_str()));
    let conf = Conf::new(&files.collect::<Vec<_>>());
    let text = refused(&[&conf.path("0.conf")]);
    assert!(text.ends_with("more than 16 files include each other"), "{text}");
}

#[test]
fn errors_of_files_name_file_line_and_reason() {
    for (text, expected) in [
        ("port 1\n\nhz abc\n", "at line 3, 'hz abc': argument couldn't be parsed into an integer"),
        ("nosuch 1", "at line 1, 'nosuch 1': Bad directive or wrong number of arguments"),
        ("hz", "'hz': wrong number of arguments"),
        ("hz 1 2", "'hz 1 2': wrong number of arguments"),
        ("hz \"1", "'hz \"1': Unbalanced quotes in configuration line"),
        ("user", "'user': Bad directive or wrong number of arguments"),
        ("include", "'include': Bad directive or wrong number of arguments"),
        ("module.option 1", "'module.option 1': Bad directive or wrong number of arguments"),
        ("sentinel monitor", "sentinel directive while not in sentinel mode"),
        ("requirepass s3cret x", "'requirepass': wrong number of arguments"),
        ("\"requirepass\" s3cret x", "'requirepass': wrong number of arguments"),
        ("requirepass \"s3cret", "'requirepass': Unbalanced quotes in configuration line"),
        ("hz 1\0", "'hz 1\\u{0}': NUL byte in configuration line"),
        ("unixsocketperm 1777", "argument must be between 0 and 777 inclusive"),
        ("unixsocketperm 9", "argument couldn't be parsed as an octal number"),
        ("appendfilename a/b", "appendfilename can't be a path, just a filename"),
        ("replicaof a", "wrong number of arguments"),
        ("slaveof a x", "Invalid master port"),
        ("bind \"\\xff\"", "Failed to bind to specified addresses."),
    ] {
        let conf = Conf::new(&[("c.conf", text)]);
        let shown = refused(&[&conf.path("c.conf")]);
        assert!(shown.starts_with("Bad configuration in '") && shown.contains("c.conf"), "{shown}");
        assert!(shown.ends_with(expected), "{shown} lacks {expected}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    let text = refused(&["/nowhere/c.conf"]);
    let expected = "Fatal error, can't open config file '/nowhere/c.conf': \
                    No such file or directory";
    assert_eq!(text, expected);
    assert!(refused(&["/"]).ends_with("Is a directory"));
}

/// What is not commented out in redis.conf of 7.0; the other versions differ by a few lines.
const STOCK: &str = r#"
bind 127.0.0.1 -::1
protected-mode yes
port 6379
tcp-backlog 511
timeout 0
tcp-keepalive 300
daemonize no
pidfile /var/run/redis_6379.pid
loglevel notice
logfile ""
databases 16
always-show-logo no
set-proc-title yes
proc-title-template "{title} {listen-addr} {server-mode}"
stop-writes-on-bgsave-error yes
rdbcompression yes
rdbchecksum yes
dbfilename dump.rdb
rdb-del-sync-files no
dir ./
replica-serve-stale-data yes
replica-read-only yes
repl-diskless-sync-delay 5
repl-diskless-load disabled
repl-disable-tcp-nodelay no
replica-priority 100
acllog-max-len 128
lazyfree-lazy-eviction no
lazyfree-lazy-expire no
lazyfree-lazy-server-del no
replica-lazy-flush no
lazyfree-lazy-user-del no
lazyfree-lazy-user-flush no
oom-score-adj no
oom-score-adj-values 0 200 800
disable-thp yes
appendonly no
appendfilename "appendonly.aof"
appendfsync everysec
no-appendfsync-on-rewrite no
auto-aof-rewrite-percentage 100
auto-aof-rewrite-min-size 64mb
aof-load-truncated yes
aof-use-rdb-preamble yes
slowlog-log-slower-than 10000
slowlog-max-len 128
latency-monitor-threshold 0
notify-keyspace-events ""
list-compress-depth 0
set-max-intset-entries 512
hll-sparse-max-bytes 3000
stream-node-max-bytes 4096
stream-node-max-entries 100
activerehashing yes
client-output-buffer-limit normal 0 0 0
client-output-buffer-limit replica 256mb 64mb 60
client-output-buffer-limit pubsub 32mb 8mb 60
hz 10
dynamic-hz yes
aof-rewrite-incremental-fsync yes
rdb-save-incremental-fsync yes
jemalloc-bg-thread yes
"#;

#[test]
fn stock_files_of_redis_start_the_server() {
    let since_7_0 = "repl-diskless-sync yes\nrepl-diskless-sync-max-replicas 0\n\
        appenddirname \"appendonlydir\"\naof-timestamp-enabled no\n\
        hash-max-listpack-entries 512\nhash-max-listpack-value 64\nlist-max-listpack-size -2\n\
        zset-max-listpack-entries 128\nzset-max-listpack-value 64\n";
    let since_7_2 =
        "locale-collate \"\"\nset-max-listpack-entries 128\nset-max-listpack-value 64\n";
    let before_7_0 = "repl-diskless-sync no\nlua-time-limit 5000\n\
        hash-max-ziplist-entries 512\nhash-max-ziplist-value 64\nlist-max-ziplist-size -2\n\
        zset-max-ziplist-entries 128\nzset-max-ziplist-value 64\n";
    let none: &[&str] = &[];
    for (version, added, expected) in [
        ("6.2", before_7_0.to_owned(), ["repl-diskless-sync"].as_slice()),
        ("7.0", since_7_0.to_owned(), none),
        ("7.2", format!("{since_7_0}{since_7_2}"), none),
    ] {
        let conf = Conf::new(&[("redis.conf", &format!("{STOCK}{added}"))]);
        let (config, notices) = run(&[&conf.path("redis.conf")]);
        assert_eq!(notices, expected, "{version}");
        assert_eq!((config.port, config.appendonly), (6379, false), "{version}");
    }
}

#[test]
fn the_installed_redis_conf_starts_the_server() {
    let path = "/etc/redis/redis.conf";
    if std::fs::read(path).is_err() {
        eprintln!("SKIPPED: {path} cannot be read");
        return;
    }
    let (config, notices) = run(&[path]);
    assert_eq!(config.dir, Path::new("/var/lib/redis"));
    assert_eq!(notices, Vec::<&str>::new());
}

// The command line

#[test]
fn flags_take_the_forms_of_getopts_and_of_redis_server() {
    for (args, name, expected) in [
        (["--port", "7000"].as_slice(), "port", "7000"),
        (&["--port=7000"], "port", "7000"),
        (&["-p", "7000"], "port", "7000"),
        (&["-p7000"], "port", "7000"),
        (&["--PORT", "7000"], "port", "7000"),
        (&["--port", "1", "--hz", "5", "-p", "2"], "port", "2"),
        (&["--appendonly", "no"], "appendonly", "no"),
        (&["--appendonly=no"], "appendonly", "no"),
        (&["--appendonly", "no", "--appendonly"], "appendonly", "yes"),
        (&["--daemonize", "-p", "5"], "daemonize", "yes"),
        (&["--save", "60", "1"], "save", "60 1"),
        (&["--save", "3600 1"], "save", "3600 1"),
        (&["--save=3600 1 60 2"], "save", "3600 1 60 2"),
        (&["--save", "60 1", "--save", "70 2"], "save", "60 1 70 2"),
        (&["--save", ""], "save", ""),
        (&["--save"], "save", ""),
        (&["--bind", "127.0.0.1 ::1"], "bind", "127.0.0.1 ::1"),
        (&["--bind", "127.0.0.1", "-::1", "-p", "1"], "bind", "127.0.0.1 -::1"),
        (&["--bind", ""], "bind", ""),
        (&["--replicaof", "no", "one"], "replicaof", ""),
        (&["--list-max-ziplist-size", "-1"], "list-max-listpack-size", "-1"),
        (
            &["--list-max-listpack-size=3", "--list-max-ziplist-size=4"],
            "list-max-listpack-size",
            "4",
        ),
        (
            &["--list-max-ziplist-size=4", "--list-max-listpack-size=3"],
            "list-max-listpack-size",
            "3",
        ),
        (&["--logfile", ""], "logfile", ""),
        (&["--requirepass", "--appendonly"], "requirepass", "--appendonly"),
        (&["--requirepass", "a b\""], "requirepass", "a b\""),
        (&["--notify-keyspace-events", "KEA"], "notify-keyspace-events", "AKE"),
        (
            &["--client-output-buffer-limit", "normal", "1", "2", "3", "--hz", "9"],
            "client-output-buffer-limit",
            "normal 1 2 3 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        ),
        (
            &[
                "--client-output-buffer-limit",
                "pubsub 0 0 0",
                "--client-output-buffer-limit",
                "normal 1 1 1",
            ],
            "client-output-buffer-limit",
            "normal 1 1 1 slave 268435456 67108864 60 pubsub 0 0 0",
        ),
    ] {
        assert_eq!(shown(&run(args).0, name), expected, "{args:?}");
    }
}

#[test]
fn flags_override_the_file_wherever_it_stands() {
    let conf = Conf::new(&[("a.conf", "port 1\nhz 2\nsave 60 1\n")]);
    let path = conf.path("a.conf");
    for args in [[&path, "--port", "9", "--save", ""], ["--port", "9", "--save=", &path, "--"]] {
        let (config, _) = run(&args);
        assert_eq!((config.port, config.hz), (9, 2), "{args:?}");
        assert_eq!(shown(&config, "save"), "", "{args:?}");
    }
    match start(&[&path]) {
        Ok(Startup::Run { config_file, .. }) => {
            assert_eq!(config_file.as_deref(), Some(Path::new(&path)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn wrong_flags_are_told_in_one_line() {
    for (args, expected) in [
        (["--nosuch", "1"].as_slice(), "Unknown flag --nosuch; --help lists the flags"),
        (&["-x"], "Unknown flag -x; --help lists the flags"),
        (&["--port"], "Flag --port lacks its value; --help lists the flags"),
        (&["-p"], "Flag -p lacks its value; --help lists the flags"),
        (&["--help=1"], "Flag --help takes no value; --help lists the flags"),
        (&["--port", "x"], "Bad flag '--port x': argument couldn't be parsed into an integer"),
        (
            &["--port", "--hz"],
            "Bad flag '--port --hz': argument couldn't be parsed into an integer",
        ),
        (
            &["--appendonly", "maybe"],
            "Bad flag '--appendonly maybe': argument must be 'yes' or 'no'",
        ),
        (&["--requirepass"], "Flag --requirepass lacks its value; --help lists the flags"),
        (&["--user"], "Bad flag '--user': Bad directive or wrong number of arguments"),
        (
            &["--rename-command", "a", "b", "c"],
            "Bad flag '--rename-command': Bad directive or wrong number of arguments",
        ),
        (&["a", "b"], "Unexpected argument 'b'; --help lists the flags"),
        (&["--hz", "a\nb"], "Bad flag '--hz a\\nb': argument couldn't be parsed into an integer"),
        (&["--", "--hz"], "Fatal error, can't open config file '--hz': No such file or directory"),
        (&[""], "Fatal error, can't open config file '': No such file or directory"),
    ] {
        assert_eq!(refused(args), expected, "{args:?}");
    }
    use std::os::unix::ffi::OsStringExt;
    let args = [OsString::from_vec(b"--dir=\xff".to_vec())];
    let text = parse_command_line(args.into_iter()).unwrap_err().to_string();
    assert!(text.contains("is not valid UTF-8"), "{text}");
}

#[test]
fn directory_becomes_absolute() {
    let here = std::env::current_dir().unwrap();
    assert_eq!(run(&[]).0.dir, here);
    assert_eq!(run(&["--dir", "./x/"]).0.dir, here.join("x"));
    assert_eq!(run(&["-d", "/tmp/"]).0.dir, Path::new("/tmp"));
}

#[test]
fn notices_name_what_has_no_effect_once_and_not_what_is_left_at_its_default() {
    let args =
        ["--repl-backlog-size", "1gb", "--slaveof", "h", "1", "--user", "a on", "--user", "b on"];
    assert_eq!(run(&args).1, ["user", "replicaof", "repl-backlog-size"]);
    assert_eq!(run(&["--repl-backlog-size", "1mb", "--appendonly", "no", "--save", ""]).1, [""; 0]);
}

#[test]
fn log_tools_take_a_file_and_what_to_do_with_it() {
    let Config { proto_max_bulk_bytes: max_bulk_bytes, databases, .. } = Config::default();
    let request =
        |file: &str, tool| ToolRequest { file: file.into(), tool, max_bulk_bytes, databases };
    let until = |until_ms| request("a", Tool::TruncateToTime { until_ms });
    for (args, expected) in [
        (&["--check-aof", "a"][..], request("a", Tool::Check { json: false })),
        (&["--check-aof", "a", "--json"], request("a", Tool::Check { json: true })),
        (&["--check-aof=a", "--fix"], request("a", Tool::Fix(Output::Copy))),
        (
            &["--fix", "--in-place", "--CHECK-AOF", "--a=b"],
            request("--a=b", Tool::Fix(Output::InPlace)),
        ),
        (&["--salvage", "--check-aof", "a"], request("a", Tool::Salvage(Output::Copy))),
        (
            &["--salvage", "--check-aof", "a", "--in-place"],
            request("a", Tool::Salvage(Output::InPlace)),
        ),
        (&["--reseal", "a"], request("a", Tool::Reseal(Output::Copy))),
        (&["--in-place", "--reseal=a"], request("a", Tool::Reseal(Output::InPlace))),
        (&["--truncate-to-time", "1700000000", "a"], until(1_700_000_000_000)),
        (&["a", "--truncate-to-time=1700000000123"], until(1_700_000_000_123)),
        (&["--truncate-to-time", "2023-11-14T22:13:20Z", "a"], until(1_700_000_000_000)),
    ] {
        match start(args) {
            Ok(Startup::LogTool(told)) => assert_eq!(told, expected, "{args:?}"),
            other => panic!("{args:?}: {other:?}"),
        }
    }
    let args = ["--check-aof", "a", "--proto-max-bulk-len", "1gb", "--databases", "20"];
    let Ok(Startup::LogTool(told)) = start(&args) else { panic!("no check") };
    assert_eq!((told.max_bulk_bytes, told.databases), (1 << 30, 20));
    for (args, why) in [
        (&["--check-aof"][..], "Flag --check-aof lacks its value"),
        (&["--check-aof", ""], "Flag --check-aof lacks its value"),
        (&["--check-aof", "a", "--check-aof", "b"], "Flag --check-aof is given twice"),
        (&["--fix"], "Flag --fix goes with --check-aof only"),
        (&["--reseal", "a", "--salvage"], "Flag --salvage goes with --check-aof only"),
        (&["--json"], "Flag --json goes with --check-aof only"),
        (&["--check-aof", "a", "--in-place"], "Flag --in-place goes with --fix, --salvage or"),
        (&["--check-aof", "a", "--fix=1"], "Flag --fix takes no value"),
        (&["--check-aof", "a", "--fix", "--json"], "Of the flags --json, --fix and --salvage"),
        (&["--check-aof", "a", "--fix", "--salvage"], "Of the flags --json, --fix and --salvage"),
        (&["--check-aof", "a", "--reseal", "b"], "Of the flags --check-aof, --reseal and"),
        (&["--truncate-to-time", "1"], "Flag --truncate-to-time TIME must be followed by one"),
        (&["--truncate-to-time", "soon", "a"], "'soon' is no time: it must be Unix time"),
        (&["--truncate-to-time", "1", "a", "b"], "Unexpected argument 'b'"),
        (&["--truncate-to-time", "1", "a", "--in-place"], "Flag --in-place goes with"),
    ] {
        assert!(refused(args).starts_with(why), "{args:?}: {}", refused(args));
    }
    let asks = |args: &[&str]| is_log_tool(&args.iter().map(OsString::from).collect::<Vec<_>>());
    assert!(asks(&["--check-aof"]) && asks(&["--fix", "--Check-Aof=a", "--nosuch"]));
    assert!(asks(&["--reseal"]) && asks(&["--truncate-to-time=1", "a"]));
    assert!(!asks(&[]) && !asks(&["check-aof", "--fix"]));
}

#[test]
fn help_names_every_parameter_and_fits_the_terminal() {
    let Ok(Startup::Help(text)) = start(&["--port", "1", "--help"]) else { panic!("no help") };
    assert_eq!(text, help());
    for parameter in PARAMETERS {
        assert!(text.contains(parameter.name), "{}", parameter.name);
        let told = parameter.means_something() || parameter.name == "include";
        assert_eq!(told, !parameter.help.is_empty(), "{}", parameter.name);
        assert_eq!(told, parameter.section != parameters::Section::Compatibility);
    }
    assert!(text.lines().all(|line| line.len() <= 88));
    assert!(matches!(start(&["-v"]), Ok(Startup::Version(v)) if v.starts_with("server_async ")));
}
