//! Reads a stream for a group and goes on for ever: `read sedge://HOST:PORT STREAM GROUP`.
#![allow(clippy::print_stdout, reason = "it is what this program is for")]

use std::time::Duration;

use sedge_uplink::client::{Access, Item, PullError, PullOptions, Reader, Start};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), PullError> {
    let mut arguments = std::env::args().skip(1);
    let [Some(url), Some(stream), Some(group)] = [(); 3].map(|()| arguments.next()) else {
        println!("usage: read sedge://HOST:PORT STREAM GROUP");
        return Ok(());
    };
    let mut reader = Reader::new(PullOptions {
        url,
        stream,
        start: Start::Earliest,
        follow: true,
        group: Some((group, "example".into())),
        group_wait: Duration::from_secs(30),
        // A token and the hub's certificate, from another machine.
        access: Access::default(),
    });
    while let Some(item) = reader.next().await? {
        show(&item);
        while let Some(item) = reader.take_queued() {
            show(&item);
        }
        // What was shown is dealt with: the group has come so far.
        reader.flushed().await?;
    }
    Ok(())
}

fn show(item: &Item) {
    let number = item.origin().number;
    match item {
        Item::Record(record) => {
            let value = String::from_utf8_lossy(&record.value);
            println!("{number} {} {value}", record.offset);
        }
        Item::Gap(gap) => println!(
            "{number} {} gap: {} lost, {}",
            gap.from, gap.lost, gap.cause
        ),
    }
}
