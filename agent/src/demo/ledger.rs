//! The account at the end: what the devices say they sent, against what the consumer was given.

use std::fmt;

use super::device::Custody;
use super::publisher::Told;
use super::tally::{Pulled, Tally};

/// The account of one demo.
pub(super) struct Ledger {
    rows: Vec<Row>,
    gaps: u64,
    lost: u64,
    strange: u64,
    repeated: u64,
}

/// The account of one device.
struct Row {
    name: String,
    how: &'static str,
    sent: u64,
    acked: u64,
    pulled: u64,
    missing: u64,
    copies: u64,
    /// Copies that nobody can recognise: the device itself sent the event as a new one.
    copies_max: u64,
    disordered: u64,
}

impl Ledger {
    pub(super) fn new(
        told: Vec<(&str, Told)>,
        node: Option<(&str, Custody)>,
        tally: Tally,
    ) -> Self {
        let none = Pulled::default();
        let pulled = |name: &str| tally.devices.get(name).unwrap_or(&none);
        let repeated = told.iter().map(|(_, told)| told.repeated).sum();
        let mut rows: Vec<Row> = told
            .iter()
            .map(|(name, told)| Row::of_publisher(name, told, pulled(name)))
            .collect();
        rows.extend(node.map(|(node, custody)| Row::of_node(node, custody, pulled(node))));
        Self {
            rows,
            gaps: tally.gaps.values().map(|(count, _)| count).sum(),
            lost: tally.gaps.values().map(|(_, lost)| lost).sum(),
            strange: tally.strange,
            repeated,
        }
    }

    pub(super) fn sent(&self) -> u64 {
        self.rows.iter().map(|row| row.sent).sum()
    }

    pub(super) fn acked(&self) -> u64 {
        self.rows.iter().map(|row| row.acked).sum()
    }

    pub(super) fn pulled(&self) -> u64 {
        self.rows.iter().map(|row| row.pulled).sum()
    }

    /// Nothing is on the way any more.
    pub(super) fn is_drained(&self) -> bool {
        self.rows
            .iter()
            .all(|row| row.acked == row.sent && row.pulled >= row.sent)
    }

    /// Every event was acknowledged and pulled, in order, and none twice that could have been recognised.
    pub(super) fn is_balanced(&self) -> bool {
        let row_balances = |row: &Row| {
            row.acked == row.sent
                && row.missing == 0
                && row.pulled == row.sent
                && row.copies <= row.copies_max
                && row.disordered == 0
        };
        self.rows.iter().all(row_balances) && self.lost == 0 && self.strange == 0
    }
}

impl Row {
    fn of_publisher(name: &str, told: &Told, pulled: &Pulled) -> Self {
        Self {
            name: name.to_owned(),
            how: "MQTT",
            sent: told.sent,
            acked: told.acked.len() as u64,
            pulled: pulled.times.len() as u64,
            missing: told
                .acked
                .iter()
                .filter(|number| !pulled.times.contains_key(number))
                .count() as u64,
            copies: pulled.copies(),
            copies_max: told.anew,
            disordered: pulled.disordered,
        }
    }

    fn of_node(name: &str, custody: Custody, pulled: &Pulled) -> Self {
        Self {
            name: name.to_owned(),
            how: "serial link",
            sent: custody.next,
            acked: custody.released,
            pulled: pulled.times.len() as u64,
            missing: (0..custody.released)
                .filter(|number| !pulled.times.contains_key(number))
                .count() as u64,
            copies: pulled.copies(),
            copies_max: 0,
            disordered: pulled.disordered,
        }
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["sent", "acked", "pulled", "missing", "copies", "disorder"];
        write!(f, "{:<10} {:<12}", "device", "by")?;
        head.iter().try_for_each(|head| write!(f, "{head:>9}"))?;
        for row in &self.rows {
            write!(f, "\n{:<10} {:<12}", row.name, row.how)?;
            let numbers = [
                row.sent,
                row.acked,
                row.pulled,
                row.missing,
                row.copies,
                row.disordered,
            ];
            numbers
                .iter()
                .try_for_each(|number| write!(f, "{number:>9}"))?;
        }
        write!(
            f,
            "\n\nEvents repeated with DUP after a reconnect: {}.",
            self.repeated
        )?;
        writeln!(
            f,
            "\nGaps seen by the consumer: {}; events lost in them: {}.",
            self.gaps, self.lost
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sent: u64) -> Told {
        Told {
            sent,
            acked: (0..sent).collect(),
            ..Told::default()
        }
    }

    fn tally(numbers: &[u64]) -> Tally {
        let mut tally = Tally::default();
        let pulled = tally.devices.entry("a".to_owned()).or_default();
        for number in numbers {
            *pulled.times.entry(*number).or_default() += 1;
        }
        tally
    }

    fn balances(told: Told, tally: Tally) -> bool {
        let node = Some(("node", Custody::default()));
        Ledger::new(vec![("a", told)], node, tally).is_balanced()
    }

    #[test]
    fn an_event_that_is_missing_or_there_twice_does_not_balance() {
        assert!(balances(told(3), tally(&[0, 1, 2])));
        assert!(!balances(told(3), tally(&[0, 2])));
        assert!(!balances(told(3), tally(&[0, 1, 1, 2])));
        assert!(balances(Told { anew: 1, ..told(3) }, tally(&[0, 1, 1, 2])));
    }

    #[test]
    fn a_loss_does_not_balance() {
        let mut tally = tally(&[0, 1, 2]);
        tally.gaps.insert("evicted", (1, 1));
        assert!(!balances(told(3), tally));
    }

    #[test]
    fn the_account_fits_80_columns() {
        let ledger = Ledger::new(
            vec![("press-1", told(3))],
            Some(("boiler-1", Custody::default())),
            tally(&[0]),
        );
        assert!(
            ledger.to_string().lines().all(|line| line.len() <= 80),
            "{ledger}"
        );
    }
}
