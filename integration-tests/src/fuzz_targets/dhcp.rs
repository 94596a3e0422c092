//! DHCP messages, and a client that gets any.

use std::net::Ipv4Addr;
use std::time::Duration;

use tidewire::ip::autoconf::dhcp::{Client, Config, Event};
use tidewire::random::Random;
use tidewire::time::Instant;
use tidewire::wire::dhcpv4::{Message, MessageType};
use tidewire_netdev::MacAddress;

use super::Input;

const OURS: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
/// What nobody needs more of, even if every message is answered at once.
const MOST_STEPS: usize = 200;

/// A message is written as it is read.
pub(super) fn message(data: &[u8]) {
    if let Ok(message) = Message::parse(data) {
        assert_eq!(Message::parse(&message.to_vec()), Ok(message));
    }
}

/// A client between servers that say anything: it never has two leases, never asks in a loop, and can always go on.
pub(super) fn client(data: &[u8]) {
    let mut input = Input(data);
    let mut now = Instant::from_millis(1000);
    let mut client = Client::new(now, Config::default(), OURS, Random::new(Some(1)));
    let mut question = None;
    let mut has_lease = false;
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() % 8 {
            0 => now += Duration::from_secs(input.u16().into()),
            1 => client.decline(now),
            2 if input.u8() == 0 => client.release(now),
            2..=4 => {
                let due = client.poll_timeout();
                if let Some(at) = due {
                    now = now.max(at);
                }
                client.handle_timeout(now);
                assert!(
                    client.poll_timeout().is_none_or(|at| at > now),
                    "asks in a loop"
                );
            }
            _ => {
                if let Some(answer) = answer(&mut input, question.as_ref()) {
                    client.handle_message(now, &answer);
                }
            }
        }
        while let Some((_, sent)) = client.poll_transmit() {
            assert_eq!(Message::parse(&sent.to_vec()).as_ref(), Ok(&sent));
            question = Some(sent);
        }
        while let Some(event) = client.poll_event() {
            has_lease = matches!(event, Event::Bound(_));
        }
        assert_eq!(has_lease, client.lease().is_some());
    }
}

/// Something like an answer to the last question; what it says is the fuzzer's.
fn answer(input: &mut Input<'_>, question: Option<&Message>) -> Option<Message> {
    let mut answer = question?.clone();
    answer.is_reply = input.u8() != 0;
    answer.kind =
        [MessageType::Offer, MessageType::Ack, MessageType::Nak][usize::from(input.u8() % 3)];
    answer.your = Ipv4Addr::from(0x0a00_0000 | u32::from(input.u8() % 4));
    answer.transaction ^= u32::from(input.u8() == 1);
    let options = &mut answer.options;
    options.server = (input.u8() != 0).then_some(Ipv4Addr::new(10, 0, 0, 200 + input.u8() % 2));
    options.lease_time = (input.u8() != 0).then(|| input.u32());
    options.renewal_time = (input.u8() == 1).then(|| input.u32());
    options.rebinding_time = (input.u8() == 1).then(|| input.u32());
    options.prefix = (input.u8() != 0).then(|| input.u8() % 33);
    Some(answer)
}
