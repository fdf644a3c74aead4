//! `busy-poll-usec`: the loop asks for events a while longer before it sleeps. Nothing else differs.

mod common;

use std::time::{Duration, Instant};

use common::{Launch, Server, SlowDisk, eventually};

/// Long enough that a loop which forgot its timers while it spins is found out.
const LONG_US: &str = "1000000";

fn start(busy_poll_us: &str) -> Server {
    Server::start(&[("busy-poll-usec", busy_poll_us)])
}

/// CPU time of the process so far, in clock ticks: hundredths of a second.
fn cpu_ticks(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("stat");
    let fields = stat.rsplit_once(") ").expect("a name in brackets").1;
    let number = |at: usize| fields.split(' ').nth(at).expect("a field").parse::<u64>();
    number(11).expect("ticks") + number(12).expect("ticks")
}

#[test]
fn it_is_off_by_default_and_an_idle_server_takes_no_time() {
    let server = Server::start(&[]);
    assert_eq!(server.run("CONFIG GET busy-poll-usec").items()[1].text(), "0");
    let before = cpu_ticks(&server);
    std::thread::sleep(Duration::from_secs(1));
    let spent = cpu_ticks(&server) - before;
    assert!(spent < 20, "{spent} ticks in a second without work");
}

#[test]
fn it_can_be_switched_on_and_off_while_running() {
    let server = start("0");
    assert!(server.run(&format!("CONFIG SET busy-poll-usec {LONG_US}")).is_ok());
    let before = cpu_ticks(&server);
    eventually("the loop spins", || cpu_ticks(&server) > before + 30);
    assert!(server.run("CONFIG SET busy-poll-usec 0").is_ok());
    let before = cpu_ticks(&server);
    std::thread::sleep(Duration::from_secs(1));
    let spent = cpu_ticks(&server) - before;
    assert!(spent < 20, "{spent} ticks in a second without work");
    assert!(server.run("CONFIG SET busy-poll-usec 1000001").is_error());
}

#[test]
fn what_is_due_is_done_while_it_spins() {
    let server = start(LONG_US);
    let mut client = server.raw();
    let shortest = (0..5).map(|_| {
        let asked = Instant::now();
        assert!(client.run("CLIENT PAUSE 50").is_ok());
        assert!(client.run("SET key value").is_ok());
        asked.elapsed()
    });
    // The shortest, since on a busy machine one may take long for reasons of its own.
    let shortest = shortest.min().expect("five");
    assert!(shortest >= Duration::from_millis(40), "the pause was not kept: {shortest:?}");
    assert!(shortest < Duration::from_millis(500), "spun past the end of the pause: {shortest:?}");
    assert!(client.run("SET volatile value PX 20").is_ok());
    eventually("the key expires by itself", || server.info("expired_keys") == "1");
}

#[test]
fn a_reply_waits_for_the_disk_and_comes_once_it_is_through() {
    let folder = tempfile::tempdir().expect("a directory");
    let disk = SlowDisk::build(folder.path());
    let launch = Launch::new().flag("appendfsync", "always").flag("busy-poll-usec", LONG_US);
    let server = disk.under(launch).start();
    let mut client = server.raw();
    assert!(client.run("SET key first").is_ok());
    disk.hang();
    client.send(b"SET key second\r\n");
    assert!(client.is_silent_for(Duration::from_millis(200)), "acknowledged though the disk hangs");
    disk.go_on();
    assert!(client.reply().is_ok());
}
