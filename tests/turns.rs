//! Who gets the processor first where the loop shares it with its own helpers.

mod common;

use std::collections::HashSet;
use std::time::Duration;

use common::{Launch, Server, eventually, skip};
use nix::unistd::Pid;
use server_async::sys::schedule::slice_of;

const SHORT: Duration = Duration::from_micros(100);

fn loop_slice(server: &Server) -> Duration {
    slice_of(Pid::from_raw(server.pid().cast_signed())).expect("the loop's attributes")
}

/// Where replies wait for the syncer, that must get the processor when it has work; elsewhere the
/// loop comes first.
#[test]
fn the_loop_takes_short_turns_but_where_replies_wait_for_the_disk() {
    let what = "the_loop_takes_short_turns_but_where_replies_wait_for_the_disk";
    let usual = slice_of(Pid::from_raw(0)).expect("own attributes");
    if usual.is_zero() {
        return skip(what, "this kernel has no slices (Linux 6.12 has)");
    }
    let server = Server::start(&[("appendonly", "yes"), ("appendfsync", "everysec")]);
    let becomes = |slice| eventually(&format!("{slice:?}"), || loop_slice(&server) == slice);
    becomes(SHORT);
    for (setting, value, slice) in [
        ("appendfsync", "always", usual),
        ("appendfsync", "no", SHORT),
        ("appendfsync", "always", usual),
        ("appendonly", "no", SHORT),
        ("appendonly", "yes", usual),
        ("appendfsync", "everysec", SHORT),
    ] {
        eprintln!("{setting} {value}");
        assert!(server.run(&format!("CONFIG SET {setting} {value}")).is_ok());
        becomes(slice);
        assert!(server.run("SET key value").is_ok());
    }
    let server = Server::start(&[("appendonly", "yes"), ("appendfsync", "always")]);
    assert!(server.run("SET key value").is_ok());
    assert_eq!(loop_slice(&server), usual);
}

/// The rewrite's child offers its processor all the time, and has turns of the usual length.
#[test]
fn the_child_of_a_rewrite_gives_way() {
    let what = "the_child_of_a_rewrite_gives_way";
    let Some(strace) = common::skip::skip_without(what, "strace") else { return };
    let folder = tempfile::tempdir().expect("a directory");
    let calls = folder.path().join("calls");
    let words = [strace.as_path(), "-f".as_ref(), "-qq".as_ref(), "-e".as_ref()];
    let words =
        [&words[..], &["trace=sched_yield,sched_setattr".as_ref(), "-o".as_ref(), &calls]].concat();
    let launch = Launch::new().wrapper(&words).flag("enable-debug-command", "yes");
    let server = launch.flag("appendonly", "yes").start();
    assert!(server.run("DEBUG POPULATE 300000").is_ok());
    let mut client = server.raw();
    client.send(b"BGREWRITEAOF\r\n");
    let mut child = None;
    eventually("a child", || {
        child = child.or_else(|| server.rewrite_child());
        child.is_some()
    });
    client.reply();
    server.wait_rewrite_end(&mut client);
    let child = child.expect("there was one").to_string();
    let text = std::fs::read_to_string(&calls).expect("strace's output");
    let of_child =
        text.lines().filter_map(|line| line.split_once(' ')).filter(|(by, _)| *by == child);
    let (wishes, offers): (Vec<_>, Vec<_>) =
        of_child.partition(|(_, call)| call.contains("setattr"));
    assert!(offers.len() >= 10, "{} of {child} in {text}", offers.len());
    assert!(wishes.len() == 1, "usual turns: {wishes:?}");
}

/// What the loop's thread makes has the loop's turns, as long as it does not ask for others.
#[test]
fn threads_made_beside_clients_take_usual_turns() {
    let what = "threads_made_beside_clients_take_usual_turns";
    let Some(strace) = common::skip::skip_without(what, "strace") else { return };
    let folder = tempfile::tempdir().expect("a directory");
    let (calls, config) = (folder.path().join("calls"), folder.path().join("redis.conf"));
    std::fs::write(&config, "appendonly yes\n").expect("a configuration");
    let words = [strace.as_path(), "-f".as_ref(), "-qq".as_ref(), "-e".as_ref()];
    let words = [&words[..], &["trace=sched_setattr".as_ref(), "-o".as_ref(), &calls]].concat();
    let launch = Launch::new().wrapper(&words).flag("enable-debug-command", "yes");
    let server = launch.config_file(&config).start();
    let askers = || -> HashSet<String> {
        let text = std::fs::read_to_string(&calls).unwrap_or_default();
        text.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect()
    };
    assert!(server.run("SET key value").is_ok());
    for line in ["CONFIG REWRITE", "DEBUG LOADAOF"] {
        let before = askers();
        assert!(server.run(line).is_ok(), "{line}");
        eventually(line, || askers().difference(&before).count() == 1);
    }
}
