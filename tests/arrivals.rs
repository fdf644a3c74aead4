//! What several clients have sent is read and parsed before any of it is run: nobody may notice.

mod common;

use common::raw::{encode, encode_into};
use common::{Launch, Raw, Reply, Rng, Server, eventually, seed_from_env};
use nix::sys::signal::Signal;

/// Does `send` while the server stands still, so that all of it is there in its next turn, in the order in
/// which it was sent.
fn in_one_turn(server: &Server, send: impl FnOnce()) {
    server.signal(Signal::SIGSTOP);
    let stat = format!("/proc/{}/stat", server.pid());
    eventually("the server stands still", || {
        std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
    });
    send();
    server.signal(Signal::SIGCONT);
}

/// Clients that the server has accepted.
fn clients<const N: usize>(server: &Server) -> [Raw; N] {
    std::array::from_fn(|_| {
        let mut client = server.raw();
        client.run("PING");
        client
    })
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

fn logging() -> Launch {
    Launch::new().flag("appendonly", "yes").flag("enable-debug-command", "yes")
}

#[test]
fn keys_are_found_in_a_keyspace_that_was_loaded_meanwhile() {
    const CLIENTS: usize = 40;
    let mut server = logging().start();
    let [mut first] = clients(&server);
    for at in 0..CLIENTS {
        assert!(first.run(&format!("SET key:{at} {at}")).is_ok());
    }
    let mut clients: [Raw; CLIENTS] = clients(&server);
    in_one_turn(&server, || {
        first.send(&encode(&["DEBUG", "LOADAOF"]));
        for (at, client) in clients.iter_mut().enumerate() {
            client.send(&encode(&["APPEND", &format!("key:{at}"), "+"]));
        }
    });
    assert!(first.reply().is_ok());
    for (at, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.reply(), Reply::Int(at.to_string().len() as i64 + 1));
        assert_eq!(client.run(&format!("GET key:{at}")), bulk(&format!("{at}+")));
    }
    assert_eq!(first.run("DBSIZE"), Reply::Int(CLIENTS as i64));
    let digest = first.run("DEBUG DIGEST");
    server.kill9();
    server.restart();
    assert_eq!(server.run("DEBUG DIGEST"), digest);
}

#[test]
fn a_client_that_was_killed_meanwhile_runs_nothing() {
    let server = Server::start(&[]);
    let [mut killer, mut victim, mut third] = clients(&server);
    let id = victim.run("CLIENT ID").int();
    in_one_turn(&server, || {
        killer.send(&encode(&["CLIENT", "KILL", "ID", &id.to_string()]));
        victim.send(&encode(&["SET", "victim", "1"]));
        third.send(&encode(&["SET", "third", "1"]));
    });
    assert_eq!(killer.reply(), Reply::Int(1));
    assert!(third.reply().is_ok());
    assert!(victim.read_until_closed().is_empty());
    assert_eq!(killer.run("KEYS *"), Reply::Array(vec![bulk("third")]));
}

/// It has waited for another command of its own, and is let go on in the turn in which its end is seen.
#[test]
fn what_a_client_has_sent_ahead_of_the_end_of_its_stream_is_run() {
    let server = Server::start(&[]);
    let [mut first, mut waiter] = clients(&server);
    let id = waiter.run("CLIENT ID").int().to_string();
    waiter.send(&[encode(&["WAIT", "1", "0"]), encode(&["SET", "after", "1"])].concat());
    eventually("it waits", || server.info("blocked_clients") == "1");
    in_one_turn(&server, || {
        // So many keys that they are not gathered with what others have sent.
        let keys = (0..64).flat_map(|at| [format!("key:{at}"), "1".to_owned()]);
        let set: Vec<String> = std::iter::once("MSET".to_owned()).chain(keys).collect();
        first.send(&[encode(&set), encode(&["CLIENT", "UNBLOCK", &id])].concat());
        waiter.finish_sending();
    });
    assert!(first.reply().is_ok());
    assert_eq!(first.reply(), Reply::Int(1));
    assert_eq!(waiter.read_until_closed(), b":0\r\n+OK\r\n");
    assert_eq!(first.run("GET after"), bulk("1"));
}

#[test]
fn a_pause_that_has_begun_meanwhile_holds() {
    let server = Server::start(&[]);
    let [mut pauser, mut writer, mut reader] = clients(&server);
    in_one_turn(&server, || {
        pauser.send(&encode(&["CLIENT", "PAUSE", "1000000", "WRITE"]));
        writer.send(&[encode(&["GET", "key"]), encode(&["SET", "key", "1"])].concat());
        reader.send(&encode(&["GET", "key"]));
    });
    assert!(pauser.reply().is_ok());
    assert!(reader.reply().is_null());
    assert!(writer.reply().is_null());
    assert!(reader.run("GET key").is_null());
    assert!(pauser.run("CLIENT UNPAUSE").is_ok());
    assert!(writer.reply().is_ok());
    assert_eq!(reader.run("GET key"), bulk("1"));
}

#[test]
fn databases_that_were_emptied_or_swapped_meanwhile_are_what_is_used() {
    let server = Server::start(&[]);
    let mut clients: [Raw; 3] = clients(&server);
    for line in ["SET key old", "SELECT 1", "SET key other", "SELECT 0"] {
        assert!(clients[0].run(line).is_ok());
    }
    for (line, found) in [("SWAPDB 0 1", bulk("other")), ("FLUSHALL", Reply::NullBulk)] {
        in_one_turn(&server, || {
            clients[0].send(format!("{line}\r\n").as_bytes());
            clients[1].send(b"GET key\r\n");
            clients[2].send(b"SET key:2 new\r\n");
        });
        assert!(clients[0].reply().is_ok());
        assert_eq!(clients[1].reply(), found);
        assert!(clients[2].reply().is_ok());
        assert_eq!(clients[1].run("GET key:2"), bulk("new"));
    }
    assert_eq!(clients[1].run("DBSIZE"), Reply::Int(1));
}

#[test]
fn what_comes_with_a_shutdown_is_run_before_it_or_not_at_all() {
    let mut server = logging().flag("appendfsync", "always").start();
    let [mut before, mut stopper, mut after] = clients(&server);
    in_one_turn(&server, || {
        before.send(&encode(&["SET", "before", "1"]));
        stopper.send(&encode(&["SHUTDOWN"]));
        after.send(&encode(&["SET", "after", "1"]));
    });
    assert_eq!(before.read_until_closed(), b"+OK\r\n");
    assert!(stopper.read_until_closed().is_empty());
    assert!(after.read_until_closed().is_empty());
    server.wait_exit();
    server.respawn();
    server.wait_ready();
    assert_eq!(server.run("KEYS *"), Reply::Array(vec![bulk("before")]));
}

/// Some commands on the keys of one client alone, and how many replies they have.
fn commands(rng: &mut Rng, client: usize) -> (Vec<u8>, usize) {
    let mut bytes = Vec::new();
    let mut replies = 0;
    for _ in 0..60 {
        let key = format!("{client}:{}", rng.below(5));
        let other = format!("{client}:{}", rng.below(5));
        let value = "v".repeat(if rng.one_in(40) { 70_000 } else { rng.below(100) });
        match rng.below(16) {
            0..4 => encode_into(&mut bytes, &["SET", &key, &value]),
            4..7 => encode_into(&mut bytes, &["GET", &key]),
            7 => encode_into(&mut bytes, &["APPEND", &key, "more"]),
            8 => encode_into(&mut bytes, &["MSET", &key, &value, &other, "2"]),
            9 => encode_into(&mut bytes, &["MGET", &key, &other, "absent", &key]),
            10 => encode_into(&mut bytes, &["DEL", &key, &other]),
            11 => encode_into(&mut bytes, &["SELECT", &rng.below(3).to_string()]),
            12 => bytes.extend(format!("STRLEN {key}\r\n").bytes()),
            13 => encode_into(&mut bytes, &["INCR", &key]),
            14 => encode_into(&mut bytes, &["GET", &key, "too many"]),
            _ => {
                encode_into(&mut bytes, &["MULTI"]);
                encode_into(&mut bytes, &["INCR", &key]);
                encode_into(&mut bytes, &["EXEC"]);
                replies += 2;
            }
        }
        replies += 1;
    }
    (bytes, replies)
}

#[test]
fn many_clients_at_once_are_served_as_each_alone() {
    const CLIENTS: usize = 40;
    let seed = seed_from_env("ARRIVALS_SEED");
    let mut rng = Rng::new(seed);
    let (together, alone) = (Server::start(&[]), Server::start(&[]));
    let mut clients: [Raw; CLIENTS] = clients(&together);
    let streams: Vec<_> = (0..CLIENTS).map(|client| commands(&mut rng, client)).collect();
    let mut sent = [0; CLIENTS];
    while (0..CLIENTS).any(|at| sent[at] < streams[at].0.len()) {
        in_one_turn(&together, || {
            for at in 0..CLIENTS {
                let left = &streams[at].0[sent[at]..];
                let most = if rng.one_in(4) { 20_000 } else { 600 };
                let count = rng.below(most).min(left.len());
                clients[at].send(&left[..count]);
                sent[at] += count;
            }
        });
    }
    for (at, (bytes, replies)) in streams.iter().enumerate() {
        let mut client = alone.raw();
        client.send(bytes);
        for reply in 0..*replies {
            assert_eq!(clients[at].reply(), client.reply(), "seed {seed}, client {at}, {reply}");
        }
    }
}
