//! A RARP client and a RARP server that get any packet at any time.

use std::net::Ipv4Addr;
use std::time::Duration;

use tidewire::ip::autoconf::rarp::{Client, Config, Event, Server, ServerConfig};
use tidewire::random::Random;
use tidewire::time::Instant;
use tidewire::wire::arp::{Message, Operation};
use tidewire_netdev::MacAddress;

use super::Input;

const OURS: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const SERVERS: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);
const MAX_HOSTS: usize = 4;

/// The client asks no more often than it says, ends once, and has an address if and only if it said so; the server
/// answers questions alone, about those it knows, and its table stays bounded.
pub(super) fn rarp(data: &[u8]) {
    let mut input = Input(data);
    let mut now = Instant::from_millis(1000);
    let config = Config {
        prefix: Some(input.u8() % 33).filter(|prefix| *prefix > 0),
        ..Config::default()
    };
    let most = config.attempts.expect("the default's");
    let mut client = Client::new(now, config, OURS, Random::new(Some(1)));
    let mut server = Server::new(ServerConfig {
        max_hosts: MAX_HOSTS,
        ..ServerConfig::default()
    });
    let (mut questions, mut ends) = (0, 0);
    while !input.is_empty() {
        match input.u8() % 4 {
            0 => now += Duration::from_millis(input.u16().into()),
            1 => {
                client.handle_timeout(now);
                assert!(
                    client.poll_timeout().is_none_or(|at| at > now),
                    "asks in a loop"
                );
            }
            2 => {
                let hardware = MacAddress([2, 0, 0, 0, 0, input.u8() % 8]);
                if input.u8() % 4 == 0 {
                    server.remove(hardware);
                } else {
                    let _ = server.insert(hardware, input.u32().into());
                }
                assert!(server.hosts().count() <= MAX_HOSTS);
            }
            _ => {
                let octets = input.take(28);
                let Ok((message, _)) = Message::parse(octets) else {
                    continue;
                };
                client.handle_message(&message);
                let own = (SERVERS, Ipv4Addr::new(10, 0, 0, 1));
                if let Ok(answer) = server.handle_message(now, own, &message) {
                    assert_eq!(message.operation, Operation::ReverseRequest);
                    assert_eq!(answer.operation, Operation::ReverseReply);
                    let told = (answer.target_hardware, answer.target_protocol);
                    assert!(server.hosts().any(|host| host == told));
                    client.handle_message(&answer);
                }
            }
        }
        questions += u32::from(client.poll_transmit().is_some());
        assert!(questions <= most);
        if let Some(event) = client.poll_event() {
            ends += 1;
            assert_eq!(matches!(event, Event::Bound(_)), client.answer().is_some());
        }
        assert_eq!(ends, u32::from(!client.is_asking()));
    }
}
