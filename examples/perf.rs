//! Throughput, latency and connection rate, of Tidewire or of the kernel in its place.
//!
//! ```text
//! perf serve --tun tw0 --address 10.7.0.2/24 --kernel-address 10.7.0.1/24 &     # our stack serves
//! perf client up --kernel --congestion cubic --connect 10.7.0.2                  # the kernel measures it
//! perf client ping --tun tw0 --address 10.7.0.2/24 --connect 10.7.0.1            # our stack measures a server
//! perf memory --mtu 1500 --no-offload                                            # both ends here, no device
//! ```

use std::process::ExitCode;

use clap::Parser;
use tidewire::Stack;
use tidewire_examples::json::Listening;
use tidewire_examples::perf::flags::{Client, Command, Load, Serve, Test};
use tidewire_examples::perf::service::Service;
use tidewire_examples::perf::{
    DISCARD_PORT, Flags, Network, SctpStack, ZeroCopyStack, client, memory, report,
};
use tidewire_examples::{Output, Result, run, run_without_device};

fn main() -> ExitCode {
    match Flags::parse().command {
        Command::Serve(flags) => serve(&flags),
        Command::Client(flags) => measure(&flags),
        Command::Memory(flags) => run_without_device(0, async || {
            let result = memory::run(flags).await?;
            Ok(Output::new(flags.json).event(&result)?)
        }),
    }
}

fn serve(flags: &Serve) -> ExitCode {
    if !flags.choice.kernel {
        return run(&flags.stack, async |running| {
            let any = running.listen_address(DISCARD_PORT).ip();
            let stack: Stack = running.stack.clone();
            let service = if flags.choice.sctp {
                Service::start(&SctpStack::new(stack), any)?
            } else if flags.choice.zero_copy {
                Service::start(&ZeroCopyStack(flags.choice.own(stack)), any)?
            } else {
                Service::start(&flags.choice.own(stack), any)?
            };
            running.listening(DISCARD_PORT)?;
            Ok(service.run().await?)
        });
    }
    run_without_device(flags.stack.workers, async || {
        report::raise_descriptor_limit()?;
        let service = Service::start(&flags.choice.kernel(), flags.bind)?;
        Output::new(flags.stack.json).event(&Listening {
            address: (flags.bind, DISCARD_PORT).into(),
            offloads: Vec::new(),
        })?;
        Ok(service.run().await?)
    })
}

fn measure(flags: &Client) -> ExitCode {
    let (test, load) = (flags.test, flags.load());
    if flags.connect.len() > 1 && !flags.choice.sctp {
        eprintln!("perf: only SCTP (--sctp) has use for several addresses of a server");
        return ExitCode::FAILURE;
    }
    let output = Output::new(flags.stack.json);
    if flags.choice.kernel {
        return run_without_device(flags.stack.workers, async || {
            report::raise_descriptor_limit()?;
            measure_over(flags.choice.kernel(), test, load, output).await
        });
    }
    run(&flags.stack, async |running| {
        if flags.choice.sctp {
            let network = SctpStack::new(running.stack).with_more_addresses(&flags.connect[1..]);
            measure_over(network, test, load, output).await
        } else if flags.choice.zero_copy {
            measure_over(
                ZeroCopyStack(flags.choice.own(running.stack)),
                test,
                load,
                output,
            )
            .await
        } else {
            measure_over(flags.choice.own(running.stack), test, load, output).await
        }
    })
}

async fn measure_over<N: Network>(network: N, test: Test, load: Load, output: Output) -> Result {
    match test {
        Test::Up => output.event(&client::up(&network, load).await?)?,
        Test::Down => output.event(&client::down(&network, load).await?)?,
        Test::Ping => output.event(&client::ping(&network, load).await?)?,
        Test::Crr => output.event(&client::crr(&network, load).await?)?,
    }
    Ok(())
}
