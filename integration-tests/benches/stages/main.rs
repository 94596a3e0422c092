//! What each stage of a packet's way costs, for a super-packet and for a packet of 1500 octets: the table in
//! `ARCHITECTURE.md`.
//!
//! Names are `stage/size/variant`. A stage that the public API does not reach alone is part of the one around it: the
//! software check of a received checksum is measured as the same calls that `engine::ingress` makes, building a TCP
//! packet and the ready list are in `engine_flush`.

mod engine;
mod netdev;
mod network;
mod samples;
mod tcp;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .configure_from_args();
    netdev::measure(&mut criterion);
    network::measure(&mut criterion);
    tcp::measure(&mut criterion);
    engine::measure(&mut criterion);
    criterion.final_summary();
}
