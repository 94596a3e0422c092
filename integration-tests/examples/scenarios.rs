//! Runs one scenario, for `callgrind.sh` to count its instructions: `scenarios NAME`; without a name it lists them.

use std::process::ExitCode;

use tidewire_integration_tests::scenarios::{Scenario, Size};

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        for scenario in Scenario::ALL {
            println!("{}", scenario.name());
        }
        return ExitCode::SUCCESS;
    };
    let Some(scenario) = Scenario::named(&name) else {
        eprintln!("{name} is no scenario: run without a name for a list");
        return ExitCode::from(2);
    };
    let moved = scenario.run(Size::Full);
    println!(
        "{name}: {} connections, {} octets, {} packets",
        moved.connections, moved.octets, moved.packets
    );
    ExitCode::SUCCESS
}
