//! Curves as SVG: goodput against the round trip, the congestion window over time.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use super::cell::{Cell, Losses};
use super::run::Outcome;

/// A run that is plotted.
pub struct Plotted<'a> {
    /// Name of the controller.
    pub controller: &'a str,
    /// The path.
    pub cell: Cell,
    /// What came of it.
    pub outcome: &'a Outcome,
}

/// A line of a chart.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Writes into `folder`, which must exist, for each rate and loss a chart of goodput against the round trip, with a line for each
/// controller, reordering and queue, and for each path one of the congestion windows over time.
///
/// # Errors
/// As writing does.
pub fn plot(runs: &[Plotted], folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut done: Vec<(u64, Losses)> = Vec::new();
    for run in runs {
        let kind = (run.cell.rate, run.cell.losses);
        if !done.contains(&kind) {
            done.push(kind);
            plot_goodput(runs, kind, folder)?;
        }
    }
    let mut cells: Vec<Cell> = Vec::new();
    for run in runs {
        if !cells.contains(&run.cell) {
            cells.push(run.cell);
            plot_windows(runs, &run.cell, folder)?;
        }
    }
    Ok(())
}

/// The parts of a cell's name, which are in this order.
fn part(cell: &Cell, place: usize) -> String {
    let name = cell.to_string();
    name.split('/').nth(place).unwrap_or_default().to_owned()
}

fn plot_goodput(
    runs: &[Plotted],
    (rate, losses): (u64, Losses),
    folder: &Path,
) -> Result<(), Box<dyn Error>> {
    let mut lines: Vec<Line> = Vec::new();
    let mut title = String::new();
    for run in runs {
        let cell = &run.cell;
        if (cell.rate, cell.losses) != (rate, losses) {
            continue;
        }
        title = format!("{} {}", part(cell, 0), part(cell, 2));
        let name = format!("{} {} {}", run.controller, part(cell, 3), part(cell, 4));
        // Round trips differ by powers.
        let point = ((cell.round_trip as f64).log10(), run.outcome.steady);
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line {
                name,
                points: vec![point],
            }),
        }
    }
    let file = format!("goodput-{}.svg", title.replace(' ', "-"));
    let axes = Axes {
        title: format!("{title}: goodput in percent of the link"),
        x: "round trip",
        x_label: |x| format!("{:.0} ms", 10f64.powf(x)),
        x_range: (0.0, 2.5),
        y_most: 100.0,
    };
    draw(&folder.join(file), &axes, &lines)
}

fn plot_windows(runs: &[Plotted], cell: &Cell, folder: &Path) -> Result<(), Box<dyn Error>> {
    let interval = cell.duration().as_secs_f64();
    let line = |run: &Plotted| {
        let windows = &run.outcome.windows;
        let at = |sample: usize| interval * (sample + 1) as f64 / windows.len() as f64;
        let points = windows.iter().enumerate();
        Line {
            name: run.controller.to_owned(),
            points: points
                .map(|(sample, window)| (at(sample), f64::from(*window)))
                .collect(),
        }
    };
    let lines: Vec<Line> = runs
        .iter()
        .filter(|run| run.cell == *cell)
        .map(line)
        .collect();
    let points = lines.iter().flat_map(|line| &line.points);
    let axes = Axes {
        title: format!("{cell}: congestion window in segments"),
        x: "seconds",
        x_label: |x| format!("{x:.1}"),
        x_range: (0.0, interval),
        y_most: points.fold(1.0, |most, point| point.1.max(most)),
    };
    let file = format!("cwnd-{}.svg", cell.to_string().replace('/', "-"));
    draw(&folder.join(file), &axes, &lines)
}

struct Axes {
    title: String,
    x: &'static str,
    x_label: fn(f64) -> String,
    x_range: (f64, f64),
    y_most: f64,
}

fn draw(file: &Path, axes: &Axes, lines: &[Line]) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(file, (960, 540)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(&axes.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(axes.x_range.0..axes.x_range.1, 0.0..axes.y_most * 1.02)?;
    chart
        .configure_mesh()
        .x_desc(axes.x)
        .x_label_formatter(&|x| (axes.x_label)(*x))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    for (number, line) in lines.iter().enumerate() {
        let color = Palette99::pick(number).mix(0.9);
        chart
            .draw_series(LineSeries::new(
                line.points.iter().copied(),
                color.stroke_width(2),
            ))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}
