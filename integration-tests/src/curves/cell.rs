//! What is varied: the cells of the grid, their names, how long each runs.

use std::fmt;
use std::time::Duration;

use tidewire::config::Config;
use tidewire::tcp::config::CongestionControl;
use tidewire_netdev::memory::impairment::{ImpairmentConfig, Loss};

use crate::world::LinkConfig;

/// Every controller, with the name that it has in files and on the command line (Linux's).
pub const CONTROLLERS: [(&str, CongestionControl); 3] = [
    ("cubic", CongestionControl::Cubic),
    ("reno", CongestionControl::NewReno),
    ("bbr", CongestionControl::Bbr),
];

/// Which packets of data are lost; their acknowledgments are not, so that what a sender knows is what arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Losses {
    /// So many in a thousand, independently.
    PerMille(u32),
    /// One in a hundred, in bursts: a Gilbert-Elliott chain that stays in its bad state for ten packets on average and
    /// loses half of them there. (With all of them lost a sender that has fallen back to one packet per timeout would
    /// stay silent for minutes, since the chain steps with packets, not with time.)
    Bursty,
}

impl Losses {
    fn impairment(self) -> Loss {
        match self {
            Self::PerMille(0) => Loss::None,
            Self::PerMille(lost) => Loss::Uniform(f64::from(lost) / 1000.0),
            Self::Bursty => Loss::GilbertElliott {
                good_to_bad: 0.1 * 0.02 / 0.98,
                bad_to_good: 0.1,
                loss_in_good: 0.0,
                loss_in_bad: 0.5,
            },
        }
    }

    /// Whether there are none.
    pub fn is_none(self) -> bool {
        self == Self::PerMille(0)
    }
}

/// One path. Its name is made of its parts, as in `100M/66ms/loss1/reorder10/queue1`: the link's rate in bits per
/// second, the round trip without a queue, percent of packets lost (`lossburst`: [`Losses::Bursty`]) and reordered, the
/// queue in bandwidth-delay products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Megabits per second.
    pub rate: u64,
    /// Milliseconds.
    pub round_trip: u64,
    /// Which packets are lost.
    pub losses: Losses,
    /// How many packets in a hundred arrive an eighth of a round trip late, overtaken by those behind.
    pub reordering: u32,
    /// The queue before the link in tenths of its bandwidth-delay product; never less than [`LEAST_QUEUE`].
    pub queue: u64,
}

/// Four packets. A tenth of a product is less than one on slow or short paths, and a link that takes a packet only while
/// it sends none is no path of TCP's.
pub const LEAST_QUEUE: u64 = 4 * 1500;

/// Queues of the grid, in tenths of a product.
const QUEUES: [u64; 3] = [1, 10, 40];
const REORDERINGS: [u32; 3] = [0, 1, 10];

impl Cell {
    const fn new(rate: u64, round_trip: u64, losses: Losses, reordering: u32, queue: u64) -> Self {
        Self {
            rate,
            round_trip,
            losses,
            reordering,
            queue,
        }
    }

    /// Bits per second.
    pub fn bits_per_second(&self) -> u64 {
        self.rate * 1_000_000
    }

    /// The round trip of an idle path.
    pub fn base_round_trip(&self) -> Duration {
        Duration::from_millis(self.round_trip)
    }

    /// How long the cell runs in virtual time: eighty round trips, or longer where those are few packets, and at most
    /// five seconds at 10 Gbit/s, which are four million packets.
    pub fn duration(&self) -> Duration {
        let eighty = self.base_round_trip() * 80;
        match self.rate {
            0..100 => eighty.max(Duration::from_secs(20)),
            100..1000 => eighty.max(Duration::from_secs(10)),
            1000..10_000 => eighty.max(Duration::from_secs(3)),
            _ => {
                (self.base_round_trip() * 250).clamp(Duration::from_secs(1), Duration::from_secs(5))
            }
        }
    }

    /// The way back: as long and as fast, and nothing else.
    pub fn way_back(&self) -> ImpairmentConfig {
        ImpairmentConfig::delay(self.base_round_trip() / 2)
            .with_rate(self.bits_per_second(), 16 << 20)
    }

    /// The path of the data; see [`Self::way_back`] for the other.
    pub fn link(&self, seed: u64) -> LinkConfig {
        let rate = self.bits_per_second();
        let product = rate / 8 * self.round_trip / 1000;
        let queue = (product * self.queue / 10).max(LEAST_QUEUE);
        let round_trip = self.base_round_trip();
        let impairment = ImpairmentConfig {
            loss: self.losses.impairment(),
            // What is under way costs more than its octets.
            in_flight_limit: 4 << 30,
            ..ImpairmentConfig::delay(round_trip / 2)
                .with_rate(rate, queue as usize)
                .with_reorder(f64::from(self.reordering) / 100.0, round_trip / 8)
        };
        LinkConfig {
            impairment,
            seed,
            ..LinkConfig::default()
        }
    }

    /// Stacks as users get them, but that at 10 Gbit/s the buffers, which end at 32 MiB, may grow to what the longest
    /// path there holds twice over.
    pub fn config(&self, control: CongestionControl) -> Config {
        let mut config = Config::default();
        config.tcp.congestion_control = control;
        if self.rate >= 10_000 {
            config.tcp.max_send_buffer = 128 << 20;
            config.tcp.max_receive_buffer = 128 << 20;
        }
        config
    }

    /// Whether each of `parts` is a part of the name, or begins it.
    pub fn matches(&self, parts: &[String]) -> bool {
        let name = self.to_string();
        parts
            .iter()
            .all(|part| name.starts_with(part.as_str()) || name.split('/').any(|own| own == part))
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rate {
            1000.. => write!(f, "{}G", self.rate / 1000),
            _ => write!(f, "{}M", self.rate),
        }?;
        write!(f, "/{}ms", self.round_trip)?;
        match self.losses {
            Losses::PerMille(lost) => write!(f, "/loss{}", f64::from(lost) / 10.0)?,
            Losses::Bursty => write!(f, "/lossburst")?,
        }
        let queue = self.queue as f64 / 10.0;
        write!(f, "/reorder{}/queue{queue}", self.reordering)
    }
}

/// The whole grid: at 10 and 100 Mbit/s everything with everything; at 1 Gbit/s round trips of up to 100 ms and losses of
/// up to 1 %; at 10 Gbit/s the cells of [`TEN_GIGABIT`].
pub fn grid() -> Vec<Cell> {
    let mut cells = Vec::new();
    for rate in [10, 100, 1000] {
        for round_trip in [1, 20, 66, 100, 300] {
            if rate == 1000 && round_trip > 100 {
                continue;
            }
            for losses in [
                Losses::PerMille(0),
                Losses::PerMille(1),
                Losses::PerMille(10),
                Losses::PerMille(50),
                Losses::Bursty,
            ] {
                if rate == 1000 && losses == Losses::PerMille(50) {
                    continue;
                }
                for reordering in REORDERINGS {
                    let cell = |queue| Cell::new(rate, round_trip, losses, reordering, queue);
                    cells.extend(QUEUES.map(cell));
                }
            }
        }
    }
    cells.extend(TEN_GIGABIT.iter().map(|(_, cell)| *cell));
    cells
}

/// What the tests run of it: at 10 and 100 Mbit/s one thing at a time, and what is quick of the rest.
pub fn subset() -> Vec<Cell> {
    let is_chosen = |cell: &Cell| {
        let is_clean = cell.losses.is_none() && cell.reordering == 0;
        match cell.rate {
            10 => cell.reordering == 0 || cell.queue == 10,
            100 if cell.round_trip == 66 => cell.losses.is_none() || cell.queue == 10,
            100 => cell.queue == 10 && (cell.reordering == 0 || cell.losses.is_none()),
            1000 => is_clean && cell.round_trip == 20 && cell.queue == 10,
            _ => matches!(
                alias(cell),
                Some("rack-lossy" | "city-lossy" | "city-bursty")
            ),
        }
    };
    let mut cells = grid();
    cells.retain(is_chosen);
    cells
}

/// The cells at 10 Gbit/s, by name. A rack, a city and a country: the longest holds 25 MB in flight.
pub const TEN_GIGABIT: [(&str, Cell); 12] = {
    const NONE: Losses = Losses::PerMille(0);
    [
        ("rack", Cell::new(10_000, 1, NONE, 0, 10)),
        ("rack-shallow", Cell::new(10_000, 1, NONE, 0, 1)),
        ("rack-deep", Cell::new(10_000, 1, NONE, 0, 40)),
        (
            "rack-lossy",
            Cell::new(10_000, 1, Losses::PerMille(1), 0, 10),
        ),
        ("rack-reordering", Cell::new(10_000, 1, NONE, 1, 10)),
        ("city", Cell::new(10_000, 5, NONE, 0, 10)),
        ("city-shallow", Cell::new(10_000, 5, NONE, 0, 1)),
        (
            "city-lossy",
            Cell::new(10_000, 5, Losses::PerMille(1), 0, 10),
        ),
        ("city-bursty", Cell::new(10_000, 5, Losses::Bursty, 0, 10)),
        ("city-reordering", Cell::new(10_000, 5, NONE, 10, 10)),
        ("country", Cell::new(10_000, 20, NONE, 0, 10)),
        ("country-shallow", Cell::new(10_000, 20, NONE, 0, 1)),
    ]
};

/// The name that a cell at 10 Gbit/s has besides.
pub fn alias(cell: &Cell) -> Option<&'static str> {
    let named = TEN_GIGABIT.iter().find(|(_, named)| named == cell);
    named.map(|(name, _)| *name)
}
