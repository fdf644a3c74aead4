//! Flags, file and CONFIG SET: right values take effect, a wrong one touches nothing.

mod common;

use std::path::Path;

use common::raw::words;
use common::{Launch, Reply, Server, skip};

/// Starts with `args` and expects a refusal: one line on standard error, exit 1, and nothing on
/// disk. Returns the line.
#[track_caller]
fn refused(launch: Launch) -> String {
    let before: Vec<String> = launch.file_names();
    let finished = launch.run_to_exit();
    assert_eq!(finished.status.code(), Some(1), "{}{}", finished.stdout, finished.stderr);
    let lines: Vec<&str> = finished.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "one line on standard error: {:?}", finished.stderr);
    assert_eq!(finished.server.files(), before, "nothing on disk");
    finished.stderr
}

#[test]
fn a_wrong_flag_is_refused_before_anything_is_touched() {
    for (name, value) in [
        ("nosuch", "1"),
        ("port", "abc"),
        ("port", "70000"),
        ("appendfsync", "sometimes"),
        ("appendonly", "maybe"),
        ("maxclients", "0"),
        ("databases", "0"),
        ("auto-aof-rewrite-min-size", "64xb"),
        ("appendfilename", "a/b"),
        ("loglevel", "loud"),
        ("timeout", "-1"),
        ("hz", ""),
    ] {
        let line = refused(Launch::new().flag(name, value));
        assert!(line.contains(name), "--{name} {value}: {line}");
    }
}

#[test]
fn a_directory_that_is_not_there_is_refused() {
    let line = refused(Launch::new().flag("dir", "/no/such/directory"));
    assert!(line.contains("/no/such/directory"), "{line}");
}

#[test]
fn a_wrong_line_of_the_file_is_refused_with_its_number() {
    for content in ["port 0\nnosuch 1\n", "port 0\nhz\n", "port 0\nhz \"10\n"] {
        let launch = Launch::new().file("server.conf", content).config_file("server.conf");
        let line = refused(launch);
        assert!(line.contains("server.conf") && line.contains('2'), "{content:?}: {line}");
    }
}

#[test]
fn a_file_that_is_not_there_is_refused() {
    let line = refused(Launch::new().config_file("nosuch.conf"));
    assert!(line.contains("nosuch.conf"), "{line}");
}

#[test]
fn help_and_version_are_printed_and_nothing_is_started() {
    for flag in ["--help", "-h"] {
        let finished = Launch::new().plain().argument(flag).run_to_exit();
        assert_eq!(finished.status.code(), Some(0));
        assert!(finished.stdout.contains("--appendfsync"), "{}", finished.stdout);
        assert!(finished.stdout.lines().all(|line| line.chars().count() <= 100));
        assert!(finished.server.files().is_empty());
    }
    for flag in ["--version", "-v"] {
        let finished = Launch::new().plain().argument(flag).run_to_exit();
        assert_eq!(finished.status.code(), Some(0));
        let version = format!("server_async {}", env!("CARGO_PKG_VERSION"));
        assert!(finished.stdout.contains(&version), "{}", finished.stdout);
        assert!(finished.server.files().is_empty());
    }
}

fn get(server: &Server, name: &str) -> String {
    let reply = server.run(&format!("CONFIG GET {name}"));
    assert_eq!(reply.items().len(), 2, "CONFIG GET {name}: {reply:?}");
    reply.items()[1].text()
}

#[test]
fn without_flags_it_is_durable() {
    let mut server = Launch::new().start();
    assert_eq!(get(&server, "appendonly"), "yes");
    assert_eq!(get(&server, "appendfsync"), "everysec");
    assert_eq!(get(&server, "appendfilename"), "appendonly.aof");
    assert!(server.run("SET key value").is_ok());
    server.kill9();
    server.restart();
    assert_eq!(server.run("GET key"), Reply::Bulk(b"value".to_vec()));
    let help = Launch::new().plain().argument("--help").run_to_exit().stdout;
    assert!(help.contains("7379"), "the port it takes without flags: {help}");
}

#[test]
fn flags_are_taken_in_each_form() {
    let port = common::port::PortLease::take();
    for (arguments, name, value) in [
        (vec!["--hz=20"], "hz", "20"),
        (vec!["--hz", "20"], "hz", "20"),
        (vec!["--bind", "127.0.0.1 ::1"], "bind", "127.0.0.1 ::1"),
        (vec!["--appendonly", "no"], "appendonly", "no"),
        (vec!["--proto-max-bulk-len", "2mb"], "proto-max-bulk-len", "2097152"),
        (vec!["--save", "60 1"], "save", "60 1"),
        (
            vec!["--client-output-buffer-limit", "pubsub 1mb 1kb 5"],
            "client-output-buffer-limit",
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 1048576 1024 5",
        ),
    ] {
        let number = port.number().to_string();
        let mut launch = Launch::new().plain().argument("-p").argument(&number);
        for argument in &arguments {
            launch = launch.argument(argument);
        }
        let server = launch.spawn();
        let mut server = server.at_port(port.number());
        server.wait_ready();
        assert_eq!(get(&server, name), value, "{arguments:?}");
    }
}

#[test]
fn the_file_is_read_as_redis_reads_it() {
    let server = Launch::new()
        .file(
            "server.conf",
            "# a comment\n\n  hz 20  \nHZ 30\nappendfilename \"log file.aof\"\n\
             proto-max-bulk-len 2MB\nrequirepass 'it\\'s'\ninclude more.conf\nmaxclients 100\n",
        )
        .file("more.conf", "timeout 77\nmaxclients 50\n")
        .config_file("server.conf")
        .flag("tcp-keepalive", "11")
        .flag("hz", "40")
        .start();
    let mut client = server.raw();
    assert!(client.command(&["AUTH", "it's"]).is_ok());
    for (name, value) in [
        ("hz", "40"),
        ("appendfilename", "log file.aof"),
        ("proto-max-bulk-len", "2097152"),
        ("timeout", "77"),
        ("maxclients", "100"),
        ("tcp-keepalive", "11"),
    ] {
        let reply = client.command(&["CONFIG", "GET", name]);
        assert_eq!(reply.items()[1].text(), value, "{name}");
    }
    assert!(server.path("log file.aof").exists());
}

#[test]
fn the_stock_file_of_debian_starts_it() {
    let stock = Path::new("/etc/redis/redis.conf");
    let Ok(content) = std::fs::read(stock) else {
        return skip("the_stock_file_of_debian_starts_it", "no readable /etc/redis/redis.conf");
    };
    let server = Launch::new()
        .file("redis.conf", content)
        .config_file("redis.conf")
        .flag("daemonize", "no")
        .flag("supervised", "no")
        .flag("pidfile", "")
        .flag("logfile", "")
        .flag("unixsocket", "")
        .flag("appendonly", "yes")
        .start();
    assert!(server.run("SET key value").is_ok());
    // Parameters that mean nothing here are taken and told back.
    assert_eq!(get(&server, "rdbcompression"), "yes");
    assert_eq!(get(&server, "list-max-listpack-size"), "-2");
}

#[test]
fn config_set_is_all_or_nothing() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    for (line, error) in [
        ("CONFIG SET hz 20 maxclients abc", "argument couldn't be parsed into an integer"),
        ("CONFIG SET hz 20 nosuch 1", "Unknown option or number of arguments"),
        ("CONFIG SET hz 20 hz 30", "duplicate parameter"),
        ("CONFIG SET hz 20 databases 3", "can't set immutable config"),
        ("CONFIG SET hz 20 dir /", ""),
        ("CONFIG SET hz 20 appendfilename other.aof", "can't set immutable config"),
        ("CONFIG SET hz 20 appendfsync sometimes", "argument(s) must be one of the following"),
    ] {
        let reply = client.command(&words(line));
        assert!(reply.error().contains(error), "{line}: {reply:?}");
        assert_eq!(client.run("CONFIG GET hz").items()[1].text(), "10", "after {line}");
    }
    assert!(client.run("CONFIG SET hz 20 timeout 100").is_ok());
    assert_eq!(client.run("CONFIG GET hz").items()[1].text(), "20");
    assert_eq!(client.run("CONFIG GET timeout").items()[1].text(), "100");
}

#[test]
fn config_get_takes_several_patterns() {
    let server = Server::start(&[]);
    let reply = server.run("CONFIG GET appendf* timeout TIMEOUT nosuch");
    let names: Vec<String> = reply.items().chunks(2).map(|pair| pair[0].text()).collect();
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(sorted, ["appendfilename", "appendfsync", "timeout"], "each once: {names:?}");
    assert!(server.run("CONFIG GET *").items().len() > 200, "all that Redis has");
}

#[test]
fn a_password_set_at_run_time_is_asked_for() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    assert!(client.run("CONFIG SET requirepass secret").is_ok());
    assert_eq!(server.run("PING").error(), "NOAUTH Authentication required.");
    let mut other = server.raw();
    assert!(other.run("AUTH secret").is_ok());
    assert_eq!(other.run("PING").text(), "PONG");
}

#[test]
fn the_log_goes_where_it_is_sent() {
    let mut server = Launch::new().flag("logfile", "server.log").spawn();
    common::eventually("the log file says that it serves", || {
        std::fs::read_to_string(server.path("server.log"))
            .is_ok_and(|log| log.contains("Ready to accept connections"))
    });
    assert_eq!(server.log_text(), "");
    server.stop();
    let log = std::fs::read_to_string(server.path("server.log")).expect("the log file");
    assert!(log.contains("PID: ") && log.contains("Server initialized"), "{log}");
}

#[test]
fn a_port_in_use_is_refused_by_name() {
    let first = Server::start(&[]);
    let port = first.port().to_string();
    let finished = Launch::new().flag("port", &port).run_to_exit();
    assert_eq!(finished.status.code(), Some(1));
    let all = finished.stdout + &finished.stderr;
    assert!(all.contains(&port) && all.contains("Address already in use"), "{all}");
    assert_eq!(first.run("PING").text(), "PONG");
}

#[test]
fn a_second_server_on_the_same_file_is_refused() {
    let first = Server::start(&[]);
    assert!(first.run("SET key value").is_ok());
    let before = first.aof();
    let finished = Launch::new().flag("dir", first.dir().to_str().expect("text")).run_to_exit();
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stdout);
    let all = finished.stdout + &finished.stderr;
    assert!(all.contains("appendonly.aof"), "it says which file: {all}");
    assert_eq!(first.aof(), before);
    assert_eq!(first.run("GET key").text(), "value");
}
