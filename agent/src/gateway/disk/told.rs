//! Logs that a hub holds otherwise, and what their chains say of them. What only such a log has is told in the log behind it. A chain that takes no events any
//! more has none behind it: it gets one for this alone.

use std::io;

use sedge_core::LogId;
use sedge_store::Partition;

use super::{Chain, Disk, LogIdentity, OpenLog, PartitionIdentity, lock};
use crate::owner::Stood;

impl Disk {
    /// Logs that a hub holds otherwise, whose chains do not say yet what only they have; with the stream, and the log that may say it. Blocks for the disk.
    pub(crate) fn untold(&mut self) -> Vec<(String, Partition, Partition)> {
        let mut untold = Vec::new();
        for chain in &mut self.chains {
            let told = told(&chain.logs, &lock(&chain.identity).identity);
            let heir = chain.head();
            // One that has ended says nothing more: this chain could not get another.
            let heir = Some(heir.partition.clone()).filter(|_| !heir.is_ended());
            let set_aside = chain.logs.iter_mut().filter(|log| log.owes_its_loss());
            for log in set_aside {
                let id = log.partition.log_id();
                if is_among(&told, id) {
                    log.note_told();
                } else if let Some(heir) = &heir {
                    untold.push((chain.stream.clone(), log.partition.clone(), heir.clone()));
                }
            }
        }
        untold
    }

    /// So much was told of each of these logs, for which there was an answer. A log that was made to tell ends with that, or goes if it has nothing to tell; where an
    /// answer is missing it waits for the next start. Blocks for the disk.
    pub(crate) fn have_told(&mut self, told: &[(LogId, u64)]) {
        for chain in &mut self.chains {
            let mut answers = Vec::new();
            for log in chain.logs.iter_mut().filter(|log| log.owes_its_loss()) {
                let id = log.partition.log_id();
                let lost = told.iter().find(|(of, _)| *of == id).map(|(_, lost)| *lost);
                if lost == Some(0) {
                    log.note_told();
                }
                answers.push(lost);
            }
            if !chain.draining || chain.head().is_ended() || answers.contains(&None) {
                continue;
            }
            if let Err(error) = chain.end_the_teller(answers.iter().any(|lost| *lost != Some(0))) {
                let (stream, partition) = (&chain.stream, chain.partition);
                tracing::debug!(stream, partition, %error, "the next start ends the log that tells of another one");
            }
        }
    }
}

impl Chain {
    fn end_the_teller(&mut self, has_told: bool) -> io::Result<()> {
        if has_told {
            let teller = self.logs.last_mut().expect("a chain has a log");
            return teller.finish();
        }
        let teller = self.logs.pop().expect("a chain has a log");
        teller.partition.close();
        let gone = teller.identity.remove()?;
        teller.partition.let_go();
        gone.finish()
    }
}

impl OpenLog {
    /// Whether a hub holds it otherwise, and nobody has written down that the chain says what only it has.
    fn owes_its_loss(&self) -> bool {
        self.is_ended() && !self.is_offered() && !self.identity.identity.told
    }

    fn note_told(&mut self) {
        let told = LogIdentity {
            told: true,
            ..self.identity.identity.clone()
        };
        if let Err(error) = self.identity.rewrite(told) {
            let id = self.partition.log_id();
            tracing::debug!(log = %id, %error, "that a log is told of is found out again at the next start");
        }
    }
}

/// Whether a chain of these logs is to say something of one of them that it does not say yet. While one of them cannot be asked what it says, it waits.
pub(super) fn is_owed(logs: &[OpenLog], partition: &PartitionIdentity) -> bool {
    let can_be_asked = |log: &OpenLog| log.opened.intake_refused.is_none();
    let mut owing = logs.iter().filter(|log| log.owes_its_loss()).peekable();
    if owing.peek().is_none() || !logs.iter().all(can_be_asked) {
        return false;
    }
    let told = told(logs, partition);
    owing.any(|log| !is_among(&told, log.partition.log_id()))
}

/// What a chain says of other logs, those of devices among them.
fn told(logs: &[OpenLog], partition: &PartitionIdentity) -> Vec<Stood> {
    let mut told = partition.stood();
    told.extend(logs.iter().flat_map(|log| log.claims.devices()));
    told
}

fn is_among(told: &[Stood], log: LogId) -> bool {
    told.iter().any(|stood| stood.log == *log.as_bytes())
}
