//! What one client sees of others and does to them: CLIENT LIST, KILL, UNBLOCK and PAUSE on real
//! addresses and ids.

use crate::Pair;
use crate::common::raw::{encode, words};
use crate::common::{Raw, Reply};

/// The clients A, B and C of one server.
struct Clients([Raw; 3]);

/// What a line of a scenario came to.
#[derive(Debug, PartialEq)]
enum Seen {
    Reply(Reply),
    /// CLIENT LIST: whose lines, each with the flags and the last command.
    Listed(Vec<String>),
    Closed,
}

impl Clients {
    /// In one line `{B}` is B's id, `{addr:B}` and `{laddr:B}` are its addresses.
    fn fill_in(&mut self, line: &str) -> String {
        let mut line = line.to_owned();
        for (letter, client) in ["A", "B", "C"].into_iter().zip(&mut self.0) {
            if !line.contains(&format!("{letter}}}")) {
                continue;
            }
            let info = client.run("CLIENT INFO").text();
            for (name, place) in [("id", ""), ("addr", "addr:"), ("laddr", "laddr:")] {
                let value = field(&info, name);
                line = line.replace(&format!("{{{place}{letter}}}"), value);
            }
        }
        line
    }

    fn ids(&mut self) -> Vec<String> {
        self.0.iter_mut().map(|client| client.run("CLIENT ID").int().to_string()).collect()
    }

    /// Runs the lines: `A: PING` sends and reads, `B! PING` sends alone, `B?` reads alone, and `B#`
    /// finds the connection closed.
    fn play(&mut self, lines: &[&str]) -> Vec<Seen> {
        let ids = self.ids();
        let mut seen = Vec::new();
        for line in lines {
            let line = self.fill_in(line);
            let (who, rest) = line.split_at(2);
            let (letter, what) = who.split_at(1);
            let client = &mut self.0[["A", "B", "C"].iter().position(|l| *l == letter).unwrap()];
            if what == ":" || what == "!" {
                client.send(&encode(&words(rest.trim())));
            }
            if what == "#" {
                assert!(client.is_closed(), "{line}");
                seen.push(Seen::Closed);
            } else if what != "!" {
                let reply = client.reply();
                seen.push(match rest.contains("CLIENT LIST") && !reply.is_error() {
                    true => Seen::Listed(listed(&reply.text(), &ids)),
                    false => Seen::Reply(reply),
                });
            }
        }
        seen
    }
}

fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let fields = line.split_whitespace().filter_map(|field| field.split_once('='));
    fields.into_iter().find(|(found, _)| *found == name).map_or("", |(_, value)| value)
}

fn listed(text: &str, ids: &[String]) -> Vec<String> {
    let known = text.lines().filter_map(|line| {
        let place = ids.iter().position(|id| id == field(line, "id"))?;
        Some(format!("{place} {} {}", field(line, "flags"), field(line, "cmd")))
    });
    known.collect()
}

const SCENARIOS: &[&[&str]] = &[
    &["A: CLIENT KILL ID {B}", "B#"],
    &["A: CLIENT KILL {addr:B}", "B#"],
    &["A: CLIENT KILL ADDR {addr:B} ID {B}", "B#"],
    &["A: CLIENT KILL ADDR {addr:B} ID {C}", "B: PING", "C: PING"],
    &["A: CLIENT KILL LADDR {laddr:B} ID {B} SKIPME yes TYPE normal USER default", "B#"],
    &["A: CLIENT KILL ID {A}", "A: PING"],
    &["A: CLIENT KILL ID {A} SKIPME no", "A#"],
    &["A: CLIENT KILL {addr:A}", "A#"],
    &["A: CLIENT KILL ID {B} ID {C}", "B: PING", "C#"],
    &["A: CLIENT LIST ID {B} {C} {B}"],
    &["A: CLIENT LIST ID {A} 0 {C}"],
    &["A: CLIENT LIST TYPE normal"],
    &["B: MULTI", "B: SET x 1", "A: CLIENT LIST ID {A} {C}", "B: EXEC"],
    &["B: CLIENT NO-EVICT ON", "A: CLIENT LIST ID {A} {C}", "B: CLIENT LIST ID {B}"],
    &["B: MONITOR", "A: CLIENT KILL TYPE slave", "A: CLIENT KILL TYPE replica ADDR 1.2.3.4:5"],
    &["A: CLIENT UNBLOCK {B}", "A: CLIENT UNBLOCK {B} ERROR", "B: PING"],
    &["A: MULTI", "A: CLIENT KILL ID {B}", "A: CLIENT KILL ID {B}", "A: EXEC", "B#"],
    &["A: CLIENT PAUSE 100 WRITE", "B: GET p", "B: SET p 1", "A: GET p"],
    &["A: CLIENT PAUSE 200 WRITE", "B! SET p 2", "A: CLIENT UNPAUSE", "B?", "A: GET p"],
    &["A: CLIENT PAUSE 60 ALL", "B: CLIENT PAUSE 1 WRITE", "B: SET p 3", "A: GET p"],
    &["A: CLIENT PAUSE 100", "B! CLIENT REPLY SKIP", "B! SET p 4", "B! GET p", "B?"],
    &["A: CLIENT PAUSE 200 WRITE", "B: MULTI", "B: SET p 5", "B! EXEC", "A: CLIENT UNPAUSE", "B?"],
    &[
        "A: CLIENT PAUSE 200 WRITE",
        "B! DEL p",
        "A: CLIENT UNBLOCK 1 ERROR",
        "A: CLIENT UNPAUSE",
        "B?",
    ],
    &["A: MULTI", "A: CLIENT PAUSE 200 WRITE", "A: SET p 6", "A: CLIENT UNPAUSE", "A: EXEC"],
];

/// A client that has blocked, found by the flag that CLIENT LIST shows.
const BLOCKED: &[&[&str]] = &[
    &["A: CLIENT UNBLOCK {id}", "B?", "A: CLIENT UNBLOCK {id}"],
    &["A: CLIENT UNBLOCK {id} TIMEOUT", "B?"],
    &["A: CLIENT UNBLOCK {id} error", "B?"],
    &["A: MULTI", "A: CLIENT UNBLOCK {id}", "A: CLIENT UNBLOCK {id} ERROR", "A: EXEC", "B?"],
    &["A: CLIENT KILL ID {id}", "B#"],
];

#[test]
fn clients_do_to_others_what_they_do_with_the_reference() {
    let what = "clients_do_to_others_what_they_do_with_the_reference";
    let Some(mut pair) = Pair::start(what, &[]) else { return };
    for hello in ["HELLO 2", "HELLO 3"] {
        for lines in SCENARIOS {
            pair.reset();
            let [ours, theirs] = [&pair.ours, &pair.theirs].map(|server| {
                let mut clients = Clients([server.raw(), server.raw(), server.raw()]);
                clients.0.iter_mut().for_each(|client| drop(client.run(hello)));
                clients.play(lines)
            });
            assert_eq!(ours, theirs, "{hello}, {lines:?} (ours, reference)");
        }
        for lines in BLOCKED {
            pair.reset();
            let [ours, theirs] = [&pair.ours, &pair.theirs].map(|server| {
                let mut clients = Clients([server.raw(), server.raw(), server.raw()]);
                clients.0.iter_mut().for_each(|client| drop(client.run(hello)));
                let id = clients.0[1].run("CLIENT ID").int();
                clients.0[1].send(&encode(&words("WAIT 1 0")));
                crate::common::eventually("it waits", || {
                    let line = clients.0[0].run(&format!("CLIENT LIST ID {id}")).text();
                    field(&line, "flags") == "b"
                });
                let waits = clients.0[0].run("INFO clients").text();
                assert!(waits.contains("blocked_clients:1\r\n"), "{waits}");
                let mut seen = Vec::new();
                for line in *lines {
                    let line = line.replace("{id}", &id.to_string());
                    match line.split_at(2) {
                        ("A:", rest) => seen.push(Seen::Reply(clients.0[0].run(rest.trim()))),
                        ("B?", _) => seen.push(Seen::Reply(clients.0[1].reply())),
                        _ if clients.0[1].is_closed() => seen.push(Seen::Closed),
                        _ => panic!("{line}: B is not closed"),
                    }
                }
                seen
            });
            assert_eq!(ours, theirs, "{hello}, blocked, {lines:?} (ours, reference)");
        }
    }
}
