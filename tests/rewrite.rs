//! A rewrite makes the file small and changes nothing else, whatever happens to it on the way.

mod common;

use common::aof::lines;
use common::process::{is_alive, send_signal};
use common::raw::encode_into;
use common::rng::Rng;
use common::{
    FaultySystem, Launch, PATIENCE, Raw, Reply, Server, SlowDisk, eventually, skip,
    varied_seed_from_env,
};
use nix::sys::signal::Signal;

/// Starts a rewrite and stops its child in the middle of its work: once it writes, so that it has
/// settled in as a child, and before it can end. The data set is large enough for that.
fn frozen_rewrite(server: &Server, client: &mut Raw) -> u32 {
    let mut child = None;
    eventually("a rewrite's child is caught", || {
        let reply = client.run("BGREWRITEAOF");
        assert!(!reply.is_error(), "{reply:?}");
        child = server.rewrite_child().filter(|&child| {
            while is_alive(child) && temporary_bytes(server) < 100_000 {
                std::hint::spin_loop();
            }
            send_signal(child, Signal::SIGSTOP)
        });
        if child.is_none() {
            server.wait_rewrite_end(client);
            return false;
        }
        // A stop takes effect a moment later; the child may have ended by then.
        let state = client.run("INFO persistence").text();
        let caught = state.contains("aof_rewrite_in_progress:1") && child.is_some_and(is_alive);
        if !caught {
            server.wait_rewrite_end(client);
        }
        caught
    });
    child.expect("caught")
}

/// Many keys, so that writing them takes a child a while.
fn fill(client: &mut Raw) {
    for chunk in 0..100 {
        let mut args = vec![b"MSET".to_vec()];
        for at in 0..1_000 {
            args.push(format!("key:{chunk}:{at}").into_bytes());
            args.push(b"some value of some length".to_vec());
        }
        assert!(client.command(&args).is_ok());
    }
}

/// The length of what a child has written so far.
fn temporary_bytes(server: &Server) -> u64 {
    let lengths = temporary_files(server)
        .into_iter()
        .filter_map(|name| Some(std::fs::metadata(server.path(&name)).ok()?.len()));
    lengths.sum()
}

fn temporary_files(server: &Server) -> Vec<String> {
    let mut files = server.files();
    files.retain(|name| name.contains("temp") || name.contains("rewrite"));
    files
}

/// After what has gone wrong a rewrite gives a file with all that there is.
fn rewrites_and_comes_back(server: &mut Server, client: &mut Raw) {
    let digest = client.run("DEBUG DIGEST");
    server.rewrite();
    server.kill9();
    server.restart();
    assert_eq!(server.run("DEBUG DIGEST"), digest);
}

#[test]
fn the_file_shrinks_by_more_than_nine_tenths() {
    let mut server = Server::start(&[]);
    let mut client = server.raw();
    for at in 0..1_000 {
        let (key, value) = (format!("key{}", at % 10), format!("value{at}"));
        assert!(client.command(&["SET", &key, &value]).is_ok());
    }
    let before = server.aof().len();
    let reply = client.run("BGREWRITEAOF");
    assert_eq!(reply.text(), "Background append only file rewriting started");
    server.wait_rewrite_end(&mut client);
    let after = server.aof().len();
    assert!(after * 10 < before, "{before} bytes became {after}");
    assert_eq!(client.run("GET key9"), Reply::Bulk(b"value999".to_vec()));
    assert!(client.run("SET behind it").is_ok());
    server.kill9();
    server.restart();
    assert_eq!(server.run("GET key9"), Reply::Bulk(b"value999".to_vec()));
    assert_eq!(server.run("GET behind"), Reply::Bulk(b"it".to_vec()));
    assert_eq!(server.run("DBSIZE"), Reply::Int(11));
}

#[test]
fn it_keeps_databases_deadlines_and_bytes_of_any_kind() {
    let mut server = Server::start(&[]);
    let mut client = server.raw();
    for db in [0, 3, 15] {
        assert!(client.run(&format!("SELECT {db}")).is_ok());
        for value in
            [b"".as_slice(), b"12", b"-9223372036854775808", b"\0\r\n\xff", &[b'x'; 70_000]]
        {
            let key = [b"key\r\n".as_slice(), &value[..value.len().min(20)]].concat();
            assert!(client.command(&[b"SET".as_slice(), &key, value]).is_ok());
        }
        assert!(client.run("SET brief 1 PXAT 99999999999999").is_ok());
        assert!(client.run("SET sooner 1 EX 1000").is_ok());
    }
    let deadline = client.run("PEXPIRETIME sooner");
    rewrites_and_comes_back(&mut server, &mut client);
    let mut client = server.raw();
    assert!(client.run("SELECT 15").is_ok());
    assert_eq!(client.run("PEXPIRETIME sooner"), deadline);
    assert_eq!(client.run("PEXPIRETIME brief"), Reply::Int(99_999_999_999_999));
}

#[test]
fn of_an_empty_server_leaves_a_file_without_commands() {
    let mut server = Server::start(&[]);
    for line in ["SET a 1", "FLUSHALL"] {
        assert!(server.run(line).is_ok());
    }
    server.rewrite();
    assert!(lines(&server.aof()).iter().all(|line| line.starts_with("SELECT")));
    server.kill9();
    server.restart();
    assert_eq!(server.run("DBSIZE"), Reply::Int(0));
}

#[test]
fn what_is_written_meanwhile_is_in_the_new_file() {
    for policy in ["always", "everysec", "no"] {
        let mut server = Server::start(&[("appendfsync", policy)]);
        let mut client = server.raw();
        fill(&mut client);
        assert!(client.run("SET counter 1").is_ok());
        let child = frozen_rewrite(&server, &mut client);
        for line in [
            "INCR counter",
            "INCR counter",
            "DEL key:0:0",
            "SELECT 7",
            "SET elsewhere 1",
            "SELECT 0",
            "MULTI",
            "INCR counter",
            "SET together 1",
            "EXEC",
        ] {
            assert!(!client.run(line).is_error(), "{line}");
        }
        send_signal(child, Signal::SIGCONT);
        server.wait_rewrite_end(&mut client);
        assert_eq!(server.info("aof_last_bgrewrite_status"), "ok", "{}", server.log_text());
        assert!(client.run("INCR counter").int() == 5);
        let digest = client.run("DEBUG DIGEST");
        server.kill9();
        assert!(lines(&server.aof()).len() < 100_100, "{policy}: it is the new file");
        server.restart();
        assert_eq!(server.run("DEBUG DIGEST"), digest, "{policy}");
        assert_eq!(server.run("GET counter"), Reply::Bulk(b"5".to_vec()), "{policy}");
        assert_eq!(temporary_files(&server), [""; 0], "{policy}");
    }
}

#[test]
fn a_second_one_is_refused_while_one_runs() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    fill(&mut client);
    let child = frozen_rewrite(&server, &mut client);
    assert_eq!(
        client.run("BGREWRITEAOF").error(),
        "ERR Background append only file rewriting already in progress"
    );
    assert_eq!(server.info("aof_rewrite_in_progress"), "1");
    send_signal(child, Signal::SIGCONT);
    server.wait_rewrite_end(&mut client);
    server.rewrite();
}

#[test]
fn in_a_transaction_it_is_scheduled() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    for at in 0..100 {
        assert!(client.command(&["SET", "key", &at.to_string()]).is_ok());
    }
    let before = server.aof().len();
    for line in ["MULTI", "SET key 100", "BGREWRITEAOF", "SET key 101"] {
        client.run(line);
    }
    let reply = client.run("EXEC");
    assert_eq!(reply.items()[1].text(), "Background append only file rewriting scheduled");
    server.wait_rewrite_end(&mut client);
    eventually("the file has been rewritten", || server.aof().len() < before);
    assert_eq!(client.run("GET key"), Reply::Bulk(b"101".to_vec()));
}

/// The old file stays in force, nothing temporary is left, and the next rewrite succeeds.
#[test]
fn a_killed_child_changes_nothing() {
    let mut server = Server::start(&[]);
    let mut client = server.raw();
    fill(&mut client);
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGABRT] {
        let child = frozen_rewrite(&server, &mut client);
        // Now: one that was too fast to be caught has made the file smaller.
        let before = server.aof().len();
        assert!(client.run("INCR counter").int() > 0);
        send_signal(child, signal);
        send_signal(child, Signal::SIGCONT);
        server.wait_rewrite_end(&mut client);
        assert_eq!(server.info("aof_last_bgrewrite_status"), "err", "{signal}");
        eventually("the temporary file is gone", || temporary_files(&server).is_empty());
        assert!(server.aof().len() > before, "{signal}: the old file goes on");
        assert!(client.run("INCR counter").int() > 0);
    }
    rewrites_and_comes_back(&mut server, &mut client);
    assert_eq!(server.run("GET counter"), Reply::Bulk(b"6".to_vec()));
}

#[test]
fn the_child_dies_with_its_server_and_leaves_nothing() {
    let mut server = Server::start(&[]);
    let mut client = server.raw();
    fill(&mut client);
    let child = frozen_rewrite(&server, &mut client);
    assert!(client.run("SET last word").is_ok());
    server.kill9();
    common::process::wait_gone(child, PATIENCE);
    server.restart();
    assert_eq!(temporary_files(&server), [""; 0]);
    assert_eq!(server.run("GET last"), Reply::Bulk(b"word".to_vec()));
    assert_eq!(server.run("DBSIZE"), Reply::Int(100_001));
}

/// While the child lives the key table does not shrink, so that pages stay shared. Nothing made that
/// good but a load.
#[test]
fn what_the_key_table_has_put_off_is_made_good_by_itself() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    fill(&mut client);
    let child = frozen_rewrite(&server, &mut client);
    for chunk in 0..100 {
        let mut args = vec![b"DEL".to_vec()];
        args.extend((0..980).map(|at| format!("key:{chunk}:{at}").into_bytes()));
        assert_eq!(client.command(&args), Reply::Int(980));
    }
    let table_bytes = |client: &mut Raw| {
        let stats = client.run("MEMORY STATS");
        let behind = |items: &[Reply], name: &str| {
            let name = Reply::Bulk(name.into());
            let at = items.iter().position(|item| *item == name).expect("told");
            items[at + 1].clone()
        };
        let db = behind(stats.items(), "db.0");
        behind(db.items(), "overhead.hashtable.main").int()
    };
    let before = table_bytes(&mut client);
    let keys = client.run("DBSIZE");
    let digest = client.run("DEBUG DIGEST");
    send_signal(child, Signal::SIGCONT);
    server.wait_rewrite_end(&mut client);
    eventually("the table has shrunk", || table_bytes(&mut client) * 10 < before);
    assert_eq!(client.run("DBSIZE"), keys);
    assert_eq!(client.run("DEBUG DIGEST"), digest);
}

#[test]
fn a_stop_in_the_middle_of_one_ends_in_order() {
    let mut server = Server::start(&[]);
    let mut client = server.raw();
    fill(&mut client);
    let child = frozen_rewrite(&server, &mut client);
    assert!(client.run("SET last word").is_ok());
    assert_eq!(server.stop().code(), Some(0), "{}", server.log_text());
    common::process::wait_gone(child, PATIENCE);
    assert_eq!(temporary_files(&server), [""; 0]);
    server.restart();
    assert_eq!(server.run("DBSIZE"), Reply::Int(100_001));
}

#[test]
fn a_child_that_hangs_is_killed_and_the_next_rewrite_works() {
    let mut server = Server::start(&[("aof-rewrite-timeout", "1")]);
    let mut client = server.raw();
    fill(&mut client);
    let child = frozen_rewrite(&server, &mut client);
    assert!(client.run("SET meanwhile 1").is_ok());
    server.wait_log("has written nothing for 1 s and is killed. The old file stays in force");
    common::process::wait_gone(child, PATIENCE);
    server.wait_rewrite_end(&mut client);
    assert_eq!(server.info("aof_last_bgrewrite_status"), "err");
    eventually("nothing of it is left", || temporary_files(&server).is_empty());
    rewrites_and_comes_back(&mut server, &mut client);
}

#[test]
fn it_starts_by_itself_when_the_file_has_grown() {
    let server = Server::start(&[
        ("auto-aof-rewrite-min-size", "200kb"),
        ("auto-aof-rewrite-percentage", "100"),
        ("appendfsync", "no"),
    ]);
    let mut client = server.raw();
    let value = vec![b'v'; 1_000];
    let size = || std::fs::metadata(server.path("appendonly.aof")).map_or(0, |file| file.len());
    let mut largest = 0;
    eventually("the file was rewritten by itself", || {
        for at in 0..100 {
            let key = format!("key{}", at % 5);
            assert!(client.command(&[b"SET".as_slice(), key.as_bytes(), &value]).is_ok());
            largest = largest.max(size());
        }
        server.log_text().contains("Starting automatic rewriting of AOF") && {
            server.wait_rewrite_end(&mut client);
            size() < largest / 2
        }
    });
    // The moment of the largest size may have been missed by a write.
    assert!(largest >= 190 << 10, "not before its time: {largest}");
    // What it counts growth from is what the rewrite left, not what was there before.
    let base: u64 = server.info("aof_base_size").parse().expect("a number");
    assert!(base < largest, "{base} of {largest}");
}

#[test]
fn it_does_not_start_by_itself_where_told_not_to() {
    let server = Server::start(&[
        ("auto-aof-rewrite-min-size", "1kb"),
        ("auto-aof-rewrite-percentage", "0"),
    ]);
    let mut client = server.raw();
    for _ in 0..200 {
        assert!(client.run("SET key some-value-of-some-length").is_ok());
    }
    // Longer than the rounds in which the server looks, so a start would have been seen.
    let before = server.info("total_commands_processed");
    eventually("several of the server's rounds have passed", || {
        let seconds: u64 = server.info("uptime_in_seconds").parse().expect("a number");
        seconds >= 2
    });
    assert!(!before.is_empty());
    assert!(!server.log_text().contains("rewriting of AOF"), "{}", server.log_text());
    assert!(server.aof().len() > 200 * 40);
}

/// With the log off there is a file to write all the same, as Redis does.
#[test]
fn switched_on_at_run_time_the_log_holds_everything() {
    let mut server = Server::start(&[("appendonly", "no")]);
    let mut client = server.raw();
    fill(&mut client);
    assert!(client.run("CONFIG SET appendonly yes").is_ok());
    eventually("the log is on", || {
        let info = client.run("INFO persistence").text();
        info.contains("aof_enabled:1") && info.contains("aof_rewrite_in_progress:0")
    });
    assert!(client.run("SET last word").is_ok());
    let digest = client.run("DEBUG DIGEST");
    server.kill9();
    server.set_flag("appendonly", "yes");
    server.restart();
    assert_eq!(server.run("DEBUG DIGEST"), digest);
}

#[test]
fn switched_off_at_run_time_nothing_more_is_logged() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    assert!(client.run("SET a 1").is_ok());
    assert!(client.run("CONFIG SET appendonly no").is_ok());
    // It is synced a last time before it is let go.
    eventually("the log is off", || server.info("aof_enabled") == "0");
    assert!(client.run("SET a 2").is_ok());
    assert_eq!(lines(&server.aof()), ["SELECT 0", "SET a 1"]);
}

fn number(server: &Server, field: &str) -> u64 {
    server.info(field).parse().expect("a number")
}

/// Writes `count` keys with values of a thousand bytes, some of which look like seals.
fn write_much(client: &mut Raw, count: usize) {
    for chunk in 0..count / 100 {
        let mut requests = Vec::new();
        for at in 0..100 {
            let mut value = format!("{chunk}:{at}\r\n#S1:{at}:0:0:1:00000000\r\n").into_bytes();
            value.resize(1_000, b'v');
            let key = format!("much:{chunk}:{at}");
            encode_into(&mut requests, &[b"SET".as_slice(), key.as_bytes(), &value]);
        }
        client.send(&requests);
        (0..100).for_each(|_| assert!(client.reply().is_ok()));
    }
}

/// A child that is stopped, and more written meanwhile than memory may hold.
#[test]
fn what_memory_has_no_room_for_is_read_back_from_the_old_file() {
    for (policy, seals) in [("always", "yes"), ("everysec", "yes"), ("no", "no")] {
        let mut server = Server::start(&[
            ("appendfsync", policy),
            ("aof-seals", seals),
            ("aof-rewrite-diff-max", "1mb"),
        ]);
        let mut client = server.raw();
        fill(&mut client);
        let child = frozen_rewrite(&server, &mut client);
        write_much(&mut client, 6_000);
        let held = number(&server, "aof_rewrite_buffer_length");
        assert!((1..=1 << 20).contains(&held), "{held} bytes in memory");
        let reread = number(&server, "aof_rewrite_reread_length");
        assert!(reread > 4_000_000, "{reread} bytes in the file");
        send_signal(child, Signal::SIGCONT);
        server.wait_rewrite_end(&mut client);
        assert_eq!(server.info("aof_last_bgrewrite_status"), "ok", "{}", server.log_text());
        assert_eq!(server.info("aof_rewrite_buffer_length"), "0");
        assert!(client.run("SET last word").is_ok());
        let digest = client.run("DEBUG DIGEST");
        server.kill9();
        server.restart();
        assert_eq!(server.run("DEBUG DIGEST"), digest, "{policy}, seals {seals}");
        assert_eq!(temporary_files(&server), [""; 0]);
    }
}

/// Clients that never pause do not keep a rewrite from its end.
#[test]
fn it_ends_under_full_load() {
    let mut server =
        Server::start(&[("aof-rewrite-diff-max", "1mb"), ("auto-aof-rewrite-percentage", "0")]);
    let mut client = server.raw();
    fill(&mut client);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let mut writer = server.raw();
            let done = &done;
            scope.spawn(move || {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    write_much(&mut writer, 2_000);
                }
            });
        }
        for _ in 0..3 {
            let reply = client.run("BGREWRITEAOF");
            assert!(!reply.is_error(), "{reply:?}");
            server.wait_rewrite_end(&mut client);
            assert_eq!(server.info("aof_last_bgrewrite_status"), "ok", "{}", server.log_text());
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let digest = client.run("DEBUG DIGEST");
    server.kill9();
    server.restart();
    assert_eq!(server.run("DEBUG DIGEST"), digest);
}

/// At random moments, so of every phase some: the server, its child, or both at once.
#[test]
fn killed_at_any_moment_nothing_acknowledged_is_lost() {
    let seed = varied_seed_from_env("REWRITE_SEED");
    println!("REWRITE_SEED={seed}");
    let mut rng = Rng::new(seed);
    let mut server = Server::start(&[("aof-rewrite-diff-max", "1mb")]);
    let mut client = server.raw();
    write_much(&mut client, 20_000);
    let mut acknowledged = 0;
    for round in 0..12 {
        let mut client = server.raw();
        assert!(!client.run("BGREWRITEAOF").is_error());
        let end =
            std::time::Instant::now() + std::time::Duration::from_micros(rng.below(60_000) as u64);
        while std::time::Instant::now() < end {
            acknowledged = client.run("INCR counter").int();
        }
        let child = server.rewrite_child();
        let who = rng.below(3);
        if let Some(child) = child.filter(|_| who != 0) {
            send_signal(child, Signal::SIGKILL);
        }
        if who == 1 {
            server.wait_rewrite_end(&mut client);
            acknowledged = client.run("INCR counter").int();
        }
        server.kill9();
        server.restart();
        let found = server.run("GET counter");
        let found: i64 = if found.is_null() { 0 } else { found.text().parse().expect("a number") };
        assert!(found >= acknowledged, "round {round}: {found} of {acknowledged}");
        assert_eq!(server.run("DBSIZE").int(), 20_000 + i64::from(found > 0), "round {round}");
        assert_eq!(temporary_files(&server), [""; 0], "round {round}");
    }
}

/// The phases that are over in no time, held open by a disk that hangs: the child's sync, and the
/// large sync of the new file.
#[test]
fn killed_while_the_disk_hangs_nothing_acknowledged_is_lost() {
    for phase in ["child", "hand-off"] {
        let folder = tempfile::tempdir().expect("a directory");
        let disk = SlowDisk::build(folder.path());
        let mut server = disk.under(Launch::new().flag("appendfsync", "no")).start();
        let mut client = server.raw();
        fill(&mut client);
        if phase == "child" {
            disk.hang();
            assert!(!client.run("BGREWRITEAOF").is_error());
        } else {
            let child = frozen_rewrite(&server, &mut client);
            // More than the loop takes over at once, so that a sync of some length is to come.
            write_much(&mut client, 3_000);
            send_signal(child, Signal::SIGCONT);
            server.wait_log("Background AOF rewrite terminated with success");
            disk.hang();
        }
        for _ in 0..100 {
            client.run("INCR counter");
        }
        if phase == "child" {
            assert_eq!(server.info("aof_rewrite_in_progress"), "1");
        }
        server.kill9();
        disk.go_on();
        server.restart();
        assert_eq!(server.run("GET counter"), Reply::Bulk(b"100".to_vec()), "{phase}");
        assert_eq!(temporary_files(&server), [""; 0], "{phase}");
    }
}

#[test]
fn an_error_of_the_disk_under_the_child_leaves_the_old_file_in_force() {
    let folder = tempfile::tempdir().expect("a directory");
    let system = FaultySystem::build(folder.path());
    let mut server = system.under(Launch::new().flag("appendfsync", "no")).start();
    let mut client = server.raw();
    fill(&mut client);
    for fail in [FaultySystem::fail_write, FaultySystem::fail_sync] {
        fail(&system);
        assert!(!client.run("BGREWRITEAOF").is_error());
        server.wait_rewrite_end(&mut client);
        assert_eq!(server.info("aof_last_bgrewrite_status"), "err");
        assert!(!system.fault_is_pending());
        assert!(client.run("INCR counter").int() > 0);
        eventually("nothing of it is left", || temporary_files(&server).is_empty());
    }
    rewrites_and_comes_back(&mut server, &mut client);
}

#[test]
fn at_its_limit_the_file_is_rewritten_and_if_that_does_not_help_takes_no_writes() {
    let mut server = Server::start(&[
        ("aof-max-size", "300kb"),
        ("auto-aof-rewrite-percentage", "0"),
        ("appendfsync", "no"),
    ]);
    let mut client = server.raw();
    let value = vec![b'v'; 1_000];
    // The same few keys: each time a rewrite makes room for more.
    for at in 0..2_000 {
        let key = format!("key{}", at % 5);
        eventually("a write is taken", || {
            client.command(&[b"SET".as_slice(), key.as_bytes(), &value]).is_ok()
        });
    }
    assert!(number(&server, "aof_rewrites") > 1);
    // More data than the limit allows.
    let mut at = 0;
    let refusal = loop {
        let key = format!("more{at}");
        at += 1;
        let reply = client.command(&[b"SET".as_slice(), key.as_bytes(), &value]);
        server.wait_rewrite_end(&mut client);
        if reply.is_error() && number(&server, "aof_current_size") >= 300 << 10 {
            break reply.error();
        }
        assert!(at < 1_000, "it is never full");
    };
    let begin = "MISCONF The append-only file has reached aof-max-size (307200 bytes)";
    assert!(refusal.starts_with(begin), "{refusal}");
    assert_eq!(server.info("aof_max_size_reached"), "1");
    assert_eq!(client.run("STRLEN key1"), Reply::Int(1_000), "reads are served");
    server.wait_log("close to aof-max-size");
    assert!(client.run("CONFIG SET aof-max-size 0").is_ok());
    assert!(client.run("SET later 1").is_ok());
    assert_eq!(server.info("aof_max_size_reached"), "0");
}

#[test]
fn files_from_before_rewrites_are_kept_and_undo_a_mistake() {
    let mut server = Server::start(&[]);
    let mut client = server.raw();
    assert!(client.run("CONFIG SET aof-keep-before-rewrite 2").is_ok());
    assert!(client.run("SET precious 1").is_ok());
    let digest = client.run("DEBUG DIGEST");
    server.rewrite();
    assert!(client.run("FLUSHALL").is_ok());
    server.rewrite();
    server.rewrite();
    let kept = |server: &Server| {
        let mut files = server.files();
        files.retain(|name| name.starts_with("appendonly.aof.before-"));
        files.sort();
        files
    };
    eventually("two are left", || kept(&server).len() == 2);
    let names = kept(&server);
    server.kill9();
    server.restart();
    assert_eq!(kept(&server), names, "a start lets them be");
    assert_eq!(server.run("DBSIZE"), Reply::Int(0));
    server.kill9();
    // The older one has the FLUSHALL at its end, and all that was before.
    let text = String::from_utf8(std::fs::read(server.path(&names[0])).expect("there"));
    let text = text.expect("text");
    let cut = text.find("*1\r\n$8\r\nFLUSHALL").expect("logged");
    let cut = text[..cut]
        .rfind("#S1:")
        .map_or(cut, |seal| seal + text[seal..].find('\n').expect("whole") + 1);
    std::fs::write(server.path("appendonly.aof"), &text[..cut]).expect("put back");
    server.restart();
    assert_eq!(server.run("DEBUG DIGEST"), digest);
}

/// The directory's file system, gone when dropped.
struct SmallDisk(std::path::PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is left mounted", self.0.display());
        }
    }
}

#[test]
fn without_room_on_the_disk_a_rewrite_is_refused_and_one_by_itself_put_off() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(folder.path());
    if !mount.output().is_ok_and(|output| output.status.success()) {
        return skip("a disk without room", "a tmpfs cannot be mounted; that needs root");
    }
    let _disk = SmallDisk(folder.path().to_owned());
    let dir = folder.path().to_str().expect("plain text");
    let launch = Launch::new().flag("dir", dir).flag("auto-aof-rewrite-percentage", "0");
    let server = launch.start();
    let mut client = server.raw();
    write_much(&mut client, 1_200);
    let error = client.run("BGREWRITEAOF").error();
    let begin = "ERR Can't rewrite append only file in background: the disk has ";
    assert!(error.starts_with(begin), "{error}");
    assert_eq!(server.info("aof_rewrite_scheduled"), "0");
    for line in ["auto-aof-rewrite-min-size 1kb", "auto-aof-rewrite-percentage 1"] {
        assert!(client.run(&format!("CONFIG SET {line}")).is_ok());
    }
    assert!(client.run("SET a 1").is_ok());
    let refused = || server.log_text().matches("Can't rewrite append only file").count();
    eventually("one by itself is refused", || refused() > 0);
    for _ in 0..200 {
        assert!(client.run("SET a 2").is_ok());
    }
    assert_eq!(refused(), 1, "{}", server.log_text());
    assert_eq!(temporary_files(&server), [""; 0]);
    // With less data there is room.
    assert!(client.run("FLUSHALL").is_ok());
    server.rewrite();
}
