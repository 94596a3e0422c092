//! What a connection weighs, part by part: ten thousand idle ones must cost next to nothing.

use crate::tcp::Connection;
use crate::tcp::config::SocketOptions;
use crate::tcp::connection::ecn::EcnState;
use crate::tcp::connection::handshake::Handshake;
use crate::tcp::connection::input::ChallengeLimit;
use crate::tcp::connection::negotiated::Negotiated;
use crate::tcp::connection::output::{AckSnapshot, Pending};
use crate::tcp::connection::pacing::Paced;
use crate::tcp::connection::receiving::ReceiveSide;
use crate::tcp::connection::state::Lifecycle;
use crate::tcp::connection::timers::Timers;
use crate::tcp::connection::{Counters, SendingTime, TimeWaitEntry};
use crate::tcp::receive::{
    AckSchedule, Reassembly, ReceiveBuffer, ReceiveSpace, ReceiveWindow, SackBlocks,
};
use crate::tcp::send::pacing::Pacer;
use crate::tcp::send::{Recovery, Scoreboard, SendBuffer, SendWindow, WindowUse};
use crate::transport::congestion::{Bbr, Cubic, NewReno};
use crate::transport::rtt::RttEstimator;

#[test]
fn a_connection_and_its_parts_stay_small() {
    macro_rules! table {
        ($($part:ty => $limit:literal),* $(,)?) => {
            [$((stringify!($part), size_of::<$part>(), $limit)),*]
        };
    }
    let parts = table! {
        Connection => 1500,
        Lifecycle => 24,
        Negotiated => 64,
        SendBuffer => 96,
        SendWindow => 64,
        WindowUse => 32,
        Scoreboard => 160,
        Recovery => 192,
        RttEstimator => 160,
        ReceiveSide => 448,
        ReceiveBuffer => 128,
        ReceiveWindow => 64,
        AckSchedule => 96,
        Reassembly => 96,
        SackBlocks => 64,
        ReceiveSpace => 64,
        Pacer => 40,
        Timers => 96,
        Pending => 64,
        ChallengeLimit => 32,
        Counters => 144,
        SendingTime => 40,
        EcnState => 8,
        // Allocated beside it, for as long as they are needed.
        Cubic => 280,
        NewReno => 64,
        Bbr => 600,
        Paced => 176,
        Handshake => 64,
        // Shared among connections that have set nothing of their own.
        SocketOptions => 192,
        AckSnapshot => 64,
        TimeWaitEntry => 128,
    };
    for (part, size, limit) in parts {
        println!("{part:16} {size:5} octets, {limit} at most");
    }
    for (part, size, limit) in parts {
        assert!(size <= limit, "{part}: {size} octets");
    }
}
