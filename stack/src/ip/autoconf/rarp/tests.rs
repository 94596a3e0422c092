use super::*;
use crate::stats::DropReason;

const OURS: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const SERVERS: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);
const OTHERS: MacAddress = MacAddress([2, 0, 0, 0, 0, 3]);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SECOND: Duration = Duration::from_secs(1);

fn client_with(config: Config, seed: u64) -> Client {
    let random = Random::new(Some(seed));
    Client::new(Instant::from_millis(500), config, OURS, random)
}

/// Lets the client do what is next due; gives when that was.
fn step(client: &mut Client) -> Option<Instant> {
    let at = client.poll_timeout()?;
    client.handle_timeout(at);
    Some(at)
}

/// A client that has put its first question.
fn asking(config: Config) -> Client {
    let mut client = client_with(config, 1);
    step(&mut client);
    assert!(client.poll_transmit().is_some());
    client
}

fn answer(address: [u8; 4]) -> Message {
    Message {
        operation: Operation::ReverseReply,
        sender_hardware: SERVERS,
        sender_protocol: SERVER,
        target_hardware: OURS,
        target_protocol: address.into(),
    }
}

#[test]
fn a_question_is_about_the_asker_and_an_answer_ends_it() {
    // RFC 903 3: opcode 3, ar$sha and ar$tha the sender's.
    let mut client = client_with(Config::default(), 1);
    assert_eq!(client.poll_transmit(), None);
    assert_eq!(step(&mut client), Some(Instant::from_millis(500)));
    let question = client.poll_transmit().expect("at once");
    assert_eq!(question.operation, Operation::ReverseRequest);
    assert_eq!(question.sender_hardware, OURS);
    assert_eq!(question.target_hardware, OURS);
    assert_eq!(client.poll_transmit(), None);
    assert!(client.is_asking());

    client.handle_message(&answer([10, 0, 0, 7]));
    let expected = Answer {
        address: "10.0.0.7/8".parse().expect("an address"),
        server: SERVER,
        server_hardware: SERVERS,
    };
    assert_eq!(client.poll_event(), Some(Event::Bound(expected)));
    assert_eq!(client.answer(), Some(&expected));
    assert_eq!((client.poll_timeout(), client.poll_event()), (None, None));
    // Another server's answer changes nothing.
    client.handle_message(&answer([10, 0, 0, 8]));
    assert_eq!(client.poll_event(), None);
    assert_eq!(client.answer(), Some(&expected));
    assert_eq!(expected.ip(), IpAddr::from([10, 0, 0, 7]));
}

#[test]
fn questions_are_put_less_and_less_often_and_then_no_more() {
    for seed in 0..50 {
        let mut client = client_with(Config::default(), seed);
        let mut times = Vec::new();
        while let Some(at) = step(&mut client) {
            times.push(at);
            // The last step is the end of hope.
            assert_eq!(client.poll_transmit().is_some(), times.len() <= 9);
        }
        let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let halves = [1, 2, 4, 8, 16, 32, 60, 60, 60];
        let expected = halves.map(|halves| halves * SECOND / 2);
        assert_eq!(pauses.len(), expected.len());
        for (pause, least) in pauses.into_iter().zip(expected) {
            let most = least + SECOND.min(least / 2);
            assert!((least..=most).contains(&pause), "{pause:?}");
        }
        assert_eq!(client.poll_event(), Some(Event::Failed));
        assert!(client.has_failed() && !client.is_asking());
        assert_eq!(client.poll_timeout(), None);
        // Too late.
        client.handle_message(&answer([10, 0, 0, 7]));
        assert_eq!(client.poll_event(), None);
        assert_eq!(client.answer(), None);
    }
}

#[test]
fn a_client_may_ask_for_ever() {
    let mut client = client_with(
        Config {
            attempts: None,
            ..Config::default()
        },
        1,
    );
    for _ in 0..1000 {
        step(&mut client);
        assert!(client.poll_transmit().is_some());
    }
    assert!(client.is_asking());
}

#[test]
fn the_prefix_is_configured_or_that_of_the_class() {
    // RFC 950 2.1.
    for (address, prefix, expected) in [
        ([10, 1, 2, 3], None, Some(8)),
        ([172, 16, 0, 1], None, Some(16)),
        ([192, 168, 7, 9], None, Some(24)),
        ([10, 1, 2, 3], Some(24), Some(24)),
        ([10, 1, 2, 3], Some(32), Some(32)),
        ([10, 1, 2, 2], Some(31), Some(31)),
        // No host's: RFC 1122 3.2.1.3.
        ([10, 0, 0, 0], None, None),
        ([10, 255, 255, 255], None, None),
        ([10, 1, 2, 255], Some(24), None),
        ([10, 1, 2, 0], Some(24), None),
        ([0, 1, 2, 3], None, None),
        ([0, 0, 0, 0], None, None),
        ([127, 0, 0, 1], None, None),
        ([224, 0, 0, 1], None, None),
        ([240, 0, 0, 1], None, None),
        ([255, 255, 255, 255], None, None),
    ] {
        let mut client = asking(Config {
            prefix,
            ..Config::default()
        });
        client.handle_message(&answer(address));
        let told = client.answer().map(|answer| answer.address.prefix_len());
        assert_eq!(told, expected, "{address:?}/{prefix:?}");
    }
}

#[test]
fn what_is_no_answer_about_the_client_is_ignored() {
    let right = answer([10, 0, 0, 7]);
    for wrong in [
        Message {
            operation: Operation::ReverseRequest,
            ..right
        },
        Message {
            operation: Operation::Reply,
            ..right
        },
        Message {
            target_hardware: OTHERS,
            ..right
        },
        Message {
            sender_hardware: OURS,
            ..right
        },
    ] {
        let mut client = asking(Config::default());
        client.handle_message(&wrong);
        assert!(client.is_asking(), "{wrong:?}");
    }
    // Nor is one that comes before the question.
    let mut client = client_with(Config::default(), 1);
    client.handle_message(&right);
    assert!(client.is_asking());
}

fn server(config: ServerConfig) -> Server {
    let mut server = Server::new(config);
    let known = server.insert(OURS, Ipv4Addr::new(10, 0, 0, 7));
    known.expect("room");
    server
}

fn question(sender: MacAddress, target: MacAddress) -> Message {
    Message {
        operation: Operation::ReverseRequest,
        sender_hardware: sender,
        sender_protocol: Ipv4Addr::UNSPECIFIED,
        target_hardware: target,
        target_protocol: Ipv4Addr::UNSPECIFIED,
    }
}

#[test]
fn a_server_answers_about_those_it_knows() {
    let now = Instant::from_millis(7000);
    let mut server = server(ServerConfig::default());
    let mut ask = |message: Message| server.handle_message(now, (SERVERS, SERVER), &message);
    // RFC 903 3: opcode 4, the responder's addresses, the target's.
    assert_eq!(ask(question(OURS, OURS)), Ok(answer([10, 0, 0, 7])));
    for (message, reason) in [
        (question(OTHERS, OTHERS), DropReason::NotForUs),
        (question(SERVERS, OURS), DropReason::BadNeighbor),
        (
            question(MacAddress::BROADCAST, OURS),
            DropReason::BadNeighbor,
        ),
        (answer([10, 0, 0, 7]), DropReason::NotForUs),
        (
            Message {
                operation: Operation::Request,
                ..question(OURS, OURS)
            },
            DropReason::NotForUs,
        ),
    ] {
        assert_eq!(ask(message), Err(reason), "{message:?}");
    }
    // One host may ask for another.
    let later = now + SECOND;
    let asked = server.handle_message(later, (SERVERS, SERVER), &question(OTHERS, OURS));
    assert_eq!(asked, Ok(answer([10, 0, 0, 7])));
}

#[test]
fn a_servers_table_and_its_answers_are_bounded() {
    let config = ServerConfig {
        max_hosts: 40,
        answers_per_second: 30,
        ..ServerConfig::default()
    };
    let mut server = server(config);
    let host = |n: u8| MacAddress([2, 0, 0, 0, 1, n]);
    for n in 1..=39 {
        assert_eq!(server.insert(host(n), [10, 0, 1, n].into()), Ok(()));
    }
    assert_eq!(server.insert(host(40), SERVER), Err(TableFull));
    // Anew takes no room.
    assert_eq!(server.insert(host(39), [10, 0, 2, 39].into()), Ok(()));
    assert_eq!(server.hosts().count(), 40);
    assert!(server.remove(host(39)) && !server.remove(host(39)));

    let mut now = Instant::from_millis(9000);
    let ask = |server: &mut Server, now, n| {
        let asked = server.handle_message(now, (SERVERS, SERVER), &question(host(n), host(n)));
        asked.map(|answer| answer.target_protocol)
    };
    assert_eq!(ask(&mut server, now, 1), Ok([10, 0, 1, 1].into()));
    assert_eq!(ask(&mut server, now, 1), Err(DropReason::RateLimited));
    let answered = (2..=38).filter(|n| ask(&mut server, now, *n).is_ok());
    assert_eq!(answered.count(), 29);
    now += SECOND;
    let answered = (1..=38).filter(|n| ask(&mut server, now, *n).is_ok());
    assert_eq!(answered.count(), 30);
}

#[test]
fn a_client_hears_from_a_server() {
    let mut client = asking(Config::default());
    let mut server = server(ServerConfig::default());
    let now = Instant::from_millis(800);
    let reply = server.handle_message(now, (SERVERS, SERVER), &question(OURS, OURS));
    client.handle_message(&reply.expect("known"));
    let address = client.answer().map(Answer::ip);
    assert_eq!(address, Some(IpAddr::from([10, 0, 0, 7])));
}
