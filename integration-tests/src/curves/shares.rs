//! Several flows through one bottleneck: what each gets, with one controller or several.

use std::sync::Arc;
use std::time::Duration;

use tidewire::engine::TcpSlot;
use tidewire::engine::sockets::TcpOptions;
use tidewire::tcp::config::CongestionControl;

use super::cell::{CONTROLLERS, Cell, Losses};
use super::run::{PATIENCE, drain, fill};
use crate::world::{Side, World};

/// Where flows meet: enough for ten segments of each of eight, and for as many in the queue.
pub const BOTTLENECK: Cell = Cell {
    rate: 20,
    round_trip: 50,
    losses: Losses::PerMille(0),
    reordering: 0,
    queue: 10,
};
/// Between the starts of two flows.
pub const STAGGER: Duration = Duration::from_secs(2);
/// From the last start to where shares begin to be counted: four hundred round trips.
pub const CONVERGENCE: Duration = Duration::from_secs(20);
/// How long they are counted.
pub const MEASURED: Duration = Duration::from_secs(40);

/// Flows of which each has one of the controllers, in the order of their starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flows(pub Vec<&'static str>);

impl Flows {
    /// Two to eight flows of each controller, then each pair of controllers with one to four flows of both, which start in turn.
    pub fn all() -> Vec<Self> {
        let names = CONTROLLERS.map(|(name, _)| name);
        let mut all = Vec::new();
        for name in names {
            all.extend((2..=8).map(|count| Self(vec![name; count])));
        }
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            let both = [names[one], names[other]];
            all.extend([1, 2, 4].map(|count| Self(both.repeat(count))));
        }
        all
    }

    /// Whether all have the same controller.
    pub fn is_uniform(&self) -> bool {
        self.0.iter().all(|name| *name == self.0[0])
    }

    /// As `4 cubic`, or `2 cubic + 2 bbr`.
    pub fn name(&self) -> String {
        let counted = CONTROLLERS.iter().filter_map(|(name, _)| {
            let count = self.0.iter().filter(|own| *own == name).count();
            (count > 0).then(|| format!("{count} {name}"))
        });
        counted.collect::<Vec<_>>().join(" + ")
    }

    /// What each flow delivers through [`BOTTLENECK`], in percent of the link.
    ///
    /// # Panics
    /// When a flow fails or does not come about.
    pub fn shares(&self, seed: u64) -> Vec<f64> {
        let cell = BOTTLENECK;
        let config = cell.config(CongestionControl::Cubic);
        let mut world = World::with_config(&cell.link(seed), config).without_capture();
        world.set_link(Side::B, cell.way_back());
        let listener = world.listen(Side::B, false, 80).expect("the port is free");
        let mut flows: Vec<Flow> = Vec::new();
        for name in &self.0 {
            let client = connect(&world, name);
            let mut server = None;
            let connected = world.run_until(PATIENCE, |world| {
                serve(world, &mut flows);
                server = world.engine(Side::B).tcp_accept(&listener).ok();
                server.is_some()
            });
            assert!(connected, "{}: {client:?}", self.name());
            let (server, _) = server.expect("accepted");
            flows.push(Flow {
                client,
                server,
                received: 0,
            });
            pass(&mut world, &mut flows, STAGGER);
        }
        pass(&mut world, &mut flows, CONVERGENCE);
        for flow in &mut flows {
            flow.received = 0;
        }
        pass(&mut world, &mut flows, MEASURED);
        let all = cell.bits_per_second() as f64 * MEASURED.as_secs_f64();
        let share = |flow: &Flow| flow.received as f64 * 800.0 / all;
        flows.iter().map(share).collect()
    }
}

/// What a line says of shares: Jain's index, the sum, and each.
pub fn shares_line(shares: &[f64]) -> String {
    use std::fmt::Write as _;
    let index = crate::flows::fairness(shares);
    let sum: f64 = shares.iter().sum();
    let mut line = format!("{index:.3} {sum:5.1} ");
    for share in shares {
        let _ = write!(line, " {share:4.1}");
    }
    line
}

struct Flow {
    client: Arc<TcpSlot>,
    server: Arc<TcpSlot>,
    received: u64,
}

fn connect(world: &World, name: &str) -> Arc<TcpSlot> {
    let control = CONTROLLERS.iter().find(|(own, _)| *own == name);
    let mut options = TcpOptions::default();
    Arc::make_mut(&mut options.socket).congestion_control = control.map(|(_, control)| *control);
    let remote = (Side::B.address(false), 80).into();
    let engine = world.engine(Side::A);
    let client = engine.tcp_connect(world.now, None, remote, &options);
    client.expect("B is reachable")
}

/// Lets time pass while every flow is kept busy.
fn pass(world: &mut World, flows: &mut [Flow], time: Duration) {
    let end = world.now + time;
    loop {
        serve(world, flows);
        if !world.step(end) {
            break;
        }
    }
    world.now = end;
}

fn serve(world: &mut World, flows: &mut [Flow]) {
    for flow in flows {
        fill(world.engine(Side::A), &flow.client);
        flow.received += drain(world.engine(Side::B), &flow.server);
    }
    world.flush();
}
