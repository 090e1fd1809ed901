//! What `sedge pull` printed, read as a consumer would read it.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// The lines of one pull.
#[derive(Clone, Debug, Default)]
pub struct Pulled {
    /// Events in the order in which they came.
    pub events: Vec<Event>,
    /// Gaps in the order in which they came.
    pub gaps: Vec<Gap>,
}

/// One event line.
#[derive(Clone, Debug)]
pub struct Event {
    /// Gateway and partition.
    pub partition: (String, u64),
    /// Its offset there.
    pub offset: u64,
    /// Topic under which it was published.
    pub topic: String,
    /// The payload.
    pub value: Value,
    /// When the gateway took it, as it is shown.
    pub ingested: Option<String>,
    /// What is said of that time.
    pub clock: Option<String>,
}

/// One gap line.
#[derive(Clone, Debug)]
pub struct Gap {
    /// Gateway and partition.
    pub partition: (String, u64),
    /// First missing offset.
    pub from: u64,
    /// One past the last.
    pub to: u64,
    /// Accepted records that are gone.
    pub lost: u64,
    /// Why.
    pub cause: String,
}

impl Pulled {
    /// Runs `command` to its end.
    ///
    /// # Errors
    /// What it said, if it did not end with success.
    ///
    /// # Panics
    /// If a line is not what the contract says.
    pub fn by(command: &mut Command) -> Result<Self, String> {
        let output = command.output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!(
                "{}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        Ok(Self::read(
            &String::from_utf8(output.stdout).expect("pull prints UTF-8"),
        ))
    }

    fn read(lines: &str) -> Self {
        let mut pulled = Self::default();
        for line in lines.lines() {
            let value: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
            if value.get("gap").is_some() {
                pulled.gaps.push(Gap::read(&value));
            } else {
                pulled.events.push(Event::read(&value));
            }
        }
        pulled
    }

    /// Accepted records that gaps say are gone.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.lost).sum()
    }

    /// Checks that each partition's offsets go up by one, with every hole told by a gap: the uplink carried each offset once and in order.
    ///
    /// # Panics
    /// With the first offset that breaks this.
    pub fn assert_dense(&self) {
        let mut pieces: BTreeMap<&(String, u64), Vec<(u64, u64)>> = BTreeMap::new();
        for event in &self.events {
            pieces
                .entry(&event.partition)
                .or_default()
                .push((event.offset, event.offset + 1));
        }
        for (partition, offsets) in &pieces {
            let ascending = offsets.windows(2).all(|pair| pair[0].1 <= pair[1].0);
            assert!(ascending, "{partition:?}: offsets repeat or go back");
        }
        for gap in &self.gaps {
            pieces
                .entry(&gap.partition)
                .or_default()
                .push((gap.from, gap.to));
        }
        for (partition, pieces) in &mut pieces {
            pieces.sort_unstable();
            for pair in pieces.windows(2) {
                assert_eq!(
                    pair[0].1, pair[1].0,
                    "{partition:?}: neither event nor gap, or both: {pair:?}"
                );
            }
        }
    }
}

impl Event {
    fn read(value: &Value) -> Self {
        Self {
            partition: partition(value),
            offset: number(value, "offset"),
            topic: value["headers"]["topic"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            value: value["value"].clone(),
            ingested: value["ingested"].as_str().map(str::to_owned),
            clock: value["clock"].as_str().map(str::to_owned),
        }
    }
}

impl Gap {
    fn read(value: &Value) -> Self {
        let gap = &value["gap"];
        Self {
            partition: partition(value),
            from: number(gap, "from"),
            to: number(gap, "to"),
            lost: number(gap, "lost"),
            cause: gap["cause"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

fn partition(value: &Value) -> (String, u64) {
    (
        value["gateway"].as_str().unwrap_or_default().to_owned(),
        number(value, "partition"),
    )
}

fn number(value: &Value, name: &str) -> u64 {
    value[name]
        .as_u64()
        .unwrap_or_else(|| panic!("no number {name:?} in {value}"))
}

#[cfg(test)]
mod tests {
    use super::Pulled;

    fn event(offset: u64) -> String {
        format!(
            r#"{{"gateway":"g","partition":0,"offset":{offset},"value":1,"headers":{{"topic":"a"}}}}"#
        )
    }

    #[test]
    fn a_hole_that_a_gap_tells_is_dense() {
        let gap =
            r#"{"gateway":"g","partition":0,"gap":{"from":1,"to":5,"lost":2,"cause":"evicted"}}"#;
        let pulled = Pulled::read(&format!("{}\n{gap}\n{}\n", event(0), event(5)));
        pulled.assert_dense();
        assert_eq!(pulled.lost(), 2);
    }

    #[test]
    #[should_panic(expected = "neither event nor gap")]
    fn a_hole_that_nobody_tells_is_found() {
        Pulled::read(&format!("{}\n{}\n", event(0), event(2))).assert_dense();
    }

    #[test]
    #[should_panic(expected = "offsets repeat")]
    fn a_copy_under_one_offset_is_found() {
        Pulled::read(&format!("{}\n{}\n", event(0), event(0))).assert_dense();
    }
}
