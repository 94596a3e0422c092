use super::*;

const OURS: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const HOUR: u32 = 3600;
const TO_SERVER: Destination = Destination::Server {
    source: ADDRESS,
    server: SERVER,
};

/// A client, the time, and a server that the tests play.
struct Bench {
    client: Client,
    now: Instant,
}

impl Bench {
    fn new(seed: u64) -> Self {
        Self::with(seed, Config::default())
    }

    fn with(seed: u64, config: Config) -> Self {
        let now = Instant::from_millis(5000);
        let mut client = Client::new(now, config, OURS, Random::new(Some(seed)));
        assert_eq!(client.poll_timeout(), Some(now), "at once");
        client.handle_timeout(now);
        Self { client, now }
    }

    /// One with a lease of that many seconds, begun now.
    fn bound(lease_time: u32) -> Self {
        let mut bench = Self::new(1);
        bench.bind(lease_time);
        bench
    }

    fn bind(&mut self, lease_time: u32) {
        let (_, discover) = self.sent();
        self.answer(&discover, MessageType::Offer, lease_time);
        let (_, request) = self.sent();
        self.answer(&request, MessageType::Ack, lease_time);
        assert!(matches!(self.client.poll_event(), Some(Event::Bound(_))));
        assert_eq!(self.client.poll_event(), None);
        assert!(self.client.lease().is_some() && !self.client.is_looking());
    }

    fn sent(&mut self) -> (Destination, Message) {
        self.client.poll_transmit().expect("a message")
    }

    /// What a server says to `question`.
    fn reply(question: &Message, kind: MessageType, lease_time: u32) -> Message {
        Message {
            kind,
            is_reply: true,
            your: ADDRESS,
            options: Options {
                prefix: Some(24),
                routers: [SERVER].into_iter().collect(),
                lease_time: Some(lease_time),
                server: Some(SERVER),
                ..Options::default()
            },
            ..question.clone()
        }
    }

    fn answer(&mut self, question: &Message, kind: MessageType, lease_time: u32) {
        let reply = Self::reply(question, kind, lease_time);
        self.client.handle_message(self.now, &reply);
    }

    /// Lets time pass until something is sent or happens; gives how long.
    fn run(&mut self) -> Duration {
        let start = self.now;
        while self.client.outbox.is_empty() && self.client.events.is_empty() {
            let at = self.client.poll_timeout().expect("something is due");
            assert!(at >= self.now, "a timer of the past");
            self.now = at;
            self.client.handle_timeout(at);
        }
        self.now - start
    }
}

#[test]
fn address_is_asked_for_as_rfc_2131_3_1_says() {
    let mut bench = Bench::with(
        1,
        Config {
            host_name: Some("tidewire".to_owned()),
            requested: Some(OTHER),
            ..Config::default()
        },
    );
    let (to, discover) = bench.sent();
    assert_eq!(
        (to, discover.kind),
        (Destination::Broadcast, MessageType::Discover)
    );
    assert!(discover.broadcast && !discover.is_reply && discover.options.client_identifier);
    assert_eq!(
        (discover.client, discover.hardware),
        (Ipv4Addr::UNSPECIFIED, OURS)
    );
    assert_eq!(discover.options.requested, Some(OTHER));
    assert_eq!(discover.options.host_name.as_deref(), Some("tidewire"));
    assert!(discover.options.parameters.contains(&option::ROUTERS));
    assert_eq!(bench.client.poll_transmit(), None);

    bench.answer(&discover, MessageType::Offer, HOUR);
    let (to, request) = bench.sent();
    // 4.3.2: SELECTING: the server and the address are named, ciaddr is zero, xid is the offer's.
    assert_eq!(
        (to, request.kind),
        (Destination::Broadcast, MessageType::Request)
    );
    assert_eq!(request.transaction, discover.transaction);
    let options = &request.options;
    assert_eq!(
        (options.requested, options.server),
        (Some(ADDRESS), Some(SERVER))
    );
    assert_eq!(request.client, Ipv4Addr::UNSPECIFIED);

    bench.answer(&request, MessageType::Ack, HOUR);
    let lease = bench.client.lease().expect("a lease").clone();
    assert_eq!(
        lease.address,
        Cidr::new(ADDRESS.into(), 24).expect("a prefix")
    );
    assert_eq!((lease.server, &lease.routers[..]), (SERVER, &[SERVER][..]));
    assert_eq!(lease.until, Some(bench.now + Duration::from_secs(3600)));
    assert_eq!(bench.client.poll_event(), Some(Event::Bound(lease)));
}

#[test]
fn silence_is_met_with_doubling_pauses() {
    // RFC 2131 4.1: up to 64 s, each with up to a second, or a quarter of it, more or less.
    let mut jitters = Vec::new();
    for seed in 0..20 {
        let mut bench = Bench::new(seed);
        let (_, first) = bench.sent();
        for base in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 64.0_f64] {
            let waited = bench.run().as_secs_f64();
            let jitter = (waited - base) / (base / 4.0).min(1.0);
            assert!(jitter.abs() <= 1.0, "{base}: {waited}");
            jitters.push(jitter);
            let (_, again) = bench.sent();
            assert_eq!(again.kind, MessageType::Discover);
            assert_eq!(again.transaction, first.transaction);
        }
    }
    assert!(jitters.iter().any(|j| *j < -0.8) && jitters.iter().any(|j| *j > 0.8));
}

#[test]
fn server_that_falls_silent_after_its_offer_is_left() {
    let mut bench = Bench::new(1);
    let (_, discover) = bench.sent();
    bench.answer(&discover, MessageType::Offer, HOUR);
    let start = bench.now;
    for _ in 0..4 {
        let (_, request) = bench.sent();
        assert_eq!(request.kind, MessageType::Request);
        bench.run();
    }
    let (_, again) = bench.sent();
    assert_eq!(again.kind, MessageType::Discover);
    assert_ne!(again.transaction, discover.transaction);
    let waited = (bench.now - start).as_secs();
    assert!((56..=64).contains(&waited), "{waited}");
}

#[test]
fn nak_begins_anew() {
    let mut bench = Bench::new(1);
    let (_, discover) = bench.sent();
    bench.answer(&discover, MessageType::Offer, HOUR);
    let (_, request) = bench.sent();
    let other = Message {
        options: Options {
            server: Some(OTHER),
            ..Options::default()
        },
        ..Bench::reply(&request, MessageType::Nak, 0)
    };
    bench.client.handle_message(bench.now, &other);
    assert_eq!(bench.client.poll_transmit(), None, "not the server asked");
    bench.answer(&request, MessageType::Nak, 0);
    assert_eq!(bench.sent().1.kind, MessageType::Discover);
}

#[test]
fn lease_is_prolonged_by_its_server_and_then_by_any() {
    // RFC 2131 4.4.5: T1 at half, T2 at seven eighths.
    let mut bench = Bench::bound(HOUR);
    let bound_at = bench.now;
    let at = |bench: &Bench| (bench.now - bound_at).as_secs();
    bench.run();
    assert_eq!(at(&bench), 1800);
    let (to, renew) = bench.sent();
    assert_eq!((to, renew.kind), (TO_SERVER, MessageType::Request));
    // 4.3.2: RENEWING: neither server nor address are named, ciaddr is the address.
    assert_eq!(
        (renew.options.server, renew.options.requested),
        (None, None)
    );
    assert_eq!((renew.client, renew.broadcast), (ADDRESS, false));
    // Half of the time that is left until T2 at 3150 s, a minute at least.
    let mut times = Vec::new();
    loop {
        bench.run();
        let (to, _) = bench.sent();
        if to != TO_SERVER {
            assert_eq!(to, Destination::BroadcastFrom(ADDRESS));
            break;
        }
        times.push(at(&bench));
    }
    assert_eq!(times, [2475, 2812, 2981, 3065, 3125]);
    assert_eq!(at(&bench), 3150, "T2");

    // The answer of another server is taken now, and the lease begins anew.
    bench.run();
    let (_, rebind) = bench.sent();
    let ack = Message {
        options: Options {
            server: Some(OTHER),
            ..Bench::reply(&rebind, MessageType::Ack, HOUR).options
        },
        ..Bench::reply(&rebind, MessageType::Ack, HOUR)
    };
    bench.client.handle_message(bench.now, &ack);
    let Some(Event::Bound(lease)) = bench.client.poll_event() else {
        panic!("prolonged");
    };
    assert_eq!(lease.server, OTHER);
    assert_eq!(lease.until, Some(bench.now + Duration::from_secs(3600)));
    assert_eq!(bench.client.poll_event(), None);
}

#[test]
fn lease_that_nobody_prolongs_ends() {
    let mut bench = Bench::bound(HOUR);
    let bound_at = bench.now;
    let lost = loop {
        bench.run();
        while bench.client.outbox.len() > 1 || bench.client.events.is_empty() {
            if bench.client.poll_transmit().is_none() {
                break;
            }
        }
        if let Some(event) = bench.client.poll_event() {
            break event;
        }
    };
    assert!(matches!(lost, Event::Lost(lease) if lease.server == SERVER));
    assert_eq!((bench.now - bound_at).as_secs(), 3600);
    assert!(bench.client.lease().is_none() && bench.client.is_looking());
    assert_eq!(bench.sent().1.kind, MessageType::Discover);
}

#[test]
fn nak_ends_a_lease_only_when_it_answers_a_question() {
    let mut bench = Bench::bound(HOUR);
    let forged = Message {
        transaction: bench.client.transaction,
        ..Bench::reply(
            &bench
                .client
                .message(bench.now, MessageType::Request, Options::default()),
            MessageType::Nak,
            0,
        )
    };
    bench.client.handle_message(bench.now, &forged);
    assert!(bench.client.lease().is_some(), "nothing was asked");
    bench.run();
    let (_, renew) = bench.sent();
    bench.answer(&renew, MessageType::Nak, 0);
    assert!(matches!(bench.client.poll_event(), Some(Event::Lost(_))));
    assert_eq!(bench.sent().1.kind, MessageType::Discover);
}

#[test]
fn endless_lease_needs_nothing() {
    let mut bench = Bench::bound(u32::MAX);
    assert_eq!(bench.client.poll_timeout(), None);
    assert_eq!(bench.client.lease().and_then(|lease| lease.until), None);
    bench
        .client
        .handle_timeout(bench.now + Duration::from_secs(1 << 33));
    assert_eq!(bench.client.poll_transmit(), None);
}

#[test]
fn times_of_the_server_are_followed_where_they_make_sense() {
    for (t1, t2, expected) in [
        (Some(100), Some(200), (100, 200)),
        (None, None, (500, 875)),
        (Some(300), Some(5000), (300, 875)),
        (Some(900), Some(200), (200, 200)),
        (Some(0), Some(0), (1, 1)),
    ] {
        let options = Options {
            renewal_time: t1,
            rebinding_time: t2,
            ..Options::default()
        };
        let times = Times::new(Instant::ZERO, 1000, &options).expect("it ends");
        let seconds = |at: Instant| (at - Instant::ZERO).as_secs();
        assert_eq!((seconds(times.renew), seconds(times.rebind)), expected);
    }
    // RFC 2131 has no least lease; one of nothing would be asked for without end.
    let none = Times::new(Instant::ZERO, 0, &Options::default()).expect("it ends");
    assert_eq!(none.end, Instant::ZERO + Duration::from_secs(10));
}

#[test]
fn address_in_use_is_declined_and_another_looked_for_after_a_pause() {
    let mut bench = Bench::bound(HOUR);
    bench.client.decline(bench.now);
    let (to, decline) = bench.sent();
    assert_eq!(
        (to, decline.kind),
        (Destination::Broadcast, MessageType::Decline)
    );
    let options = &decline.options;
    assert_eq!(
        (options.requested, options.server),
        (Some(ADDRESS), Some(SERVER))
    );
    assert_eq!(decline.client, Ipv4Addr::UNSPECIFIED);
    assert!(matches!(bench.client.poll_event(), Some(Event::Lost(_))));
    assert_eq!(bench.run().as_secs(), 10);
    bench.bind(HOUR);
}

#[test]
fn released_address_is_told_to_its_server_and_nothing_follows() {
    let mut bench = Bench::bound(HOUR);
    bench.client.release(bench.now);
    let (to, release) = bench.sent();
    assert_eq!((to, release.kind), (TO_SERVER, MessageType::Release));
    assert_eq!(
        (release.client, release.options.server),
        (ADDRESS, Some(SERVER))
    );
    assert_eq!(
        release.options.requested, None,
        "RFC 2131 table 5: MUST NOT"
    );
    assert!(matches!(bench.client.poll_event(), Some(Event::Lost(_))));
    assert_eq!(bench.client.poll_timeout(), None);
    bench.client.release(bench.now);
    bench.client.decline(bench.now);
    assert_eq!(bench.client.poll_transmit(), None);
}

#[test]
fn answers_to_others_and_offers_of_nonsense_are_ignored() {
    let mut bench = Bench::new(1);
    let (_, discover) = bench.sent();
    let offer = Bench::reply(&discover, MessageType::Offer, HOUR);
    let wrong = [
        Message {
            transaction: discover.transaction ^ 1,
            ..offer.clone()
        },
        Message {
            hardware: MacAddress([2, 0, 0, 0, 0, 2]),
            ..offer.clone()
        },
        Message {
            is_reply: false,
            ..offer.clone()
        },
        Message {
            your: Ipv4Addr::UNSPECIFIED,
            ..offer.clone()
        },
        Message {
            your: Ipv4Addr::BROADCAST,
            ..offer.clone()
        },
        Message {
            your: Ipv4Addr::new(224, 0, 0, 1),
            ..offer.clone()
        },
        Message {
            options: Options::default(),
            ..offer.clone()
        },
        Message {
            kind: MessageType::Ack,
            ..offer.clone()
        },
    ];
    for message in wrong {
        bench.client.handle_message(bench.now, &message);
        assert_eq!(bench.client.poll_transmit(), None, "{message:?}");
    }
    bench.client.handle_message(bench.now, &offer);
    let (_, request) = bench.sent();
    // Nor an ACK of another address, or without a lease.
    let ack = Bench::reply(&request, MessageType::Ack, HOUR);
    let wrong = [
        Message {
            your: OTHER,
            ..ack.clone()
        },
        Message {
            options: Options {
                lease_time: None,
                ..ack.options.clone()
            },
            ..ack.clone()
        },
        Message {
            options: Options {
                server: Some(OTHER),
                ..ack.options.clone()
            },
            ..ack.clone()
        },
    ];
    for message in wrong {
        bench.client.handle_message(bench.now, &message);
        assert!(bench.client.lease().is_none(), "{message:?}");
    }
    bench.client.handle_message(bench.now, &ack);
    assert!(bench.client.lease().is_some());
}
