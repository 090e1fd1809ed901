//! What a run costs, read from outside: a process's CPU time and memory, a block device's written bytes, an agent's counters; and the machine.
//!
//! Bytes are read at the device, after a sync: `/proc/PID/io` overstates files that are overwritten in place.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A running process.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

impl Process {
    /// User and system time of all its threads so far, in steps of 10 ms.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn cpu_seconds(self) -> Result<f64> {
        let path = format!("/proc/{}/stat", self.0);
        let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        // The second field is the program's name in parentheses and may hold spaces.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .context("no name in stat")?
            .1
            .split_whitespace()
            .collect();
        let user: u64 = fields.get(11).context("no utime")?.parse()?;
        let system: u64 = fields.get(12).context("no stime")?.parse()?;
        Ok((user + system) as f64 / TICKS_PER_SECOND)
    }

    /// Resident memory now and at its highest, in bytes.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn resident_bytes(self) -> Result<(u64, u64)> {
        Ok((self.status("VmRSS:")?, self.status("VmHWM:")?))
    }

    /// The most address space it ever had, in bytes: also what it asked for and did not touch.
    ///
    /// # Errors
    /// If it is gone.
    pub fn address_space_at_most(self) -> Result<u64> {
        self.status("VmPeak:")
    }

    fn status(self, name: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.0);
        let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .context("no such field")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }
}

/// The block device under a path.
#[derive(Clone, Debug)]
pub struct Device {
    path: PathBuf,
    major: u32,
    minor: u32,
}

impl Device {
    /// The device that holds `path`.
    ///
    /// # Errors
    /// If there is no such path.
    pub fn under(path: &Path) -> Result<Self> {
        let dev = std::fs::metadata(path)
            .with_context(|| path.display().to_string())?
            .dev();
        Ok(Self {
            path: path.to_path_buf(),
            major: rustix::fs::major(dev),
            minor: rustix::fs::minor(dev),
        })
    }

    /// Bytes written to it since the machine started, everything that is still in memory for it written first.
    ///
    /// # Errors
    /// If the file system does not sync or the device keeps no count (a tmpfs has none).
    pub fn written_bytes(&self) -> Result<u64> {
        rustix::fs::syncfs(File::open(&self.path)?)?;
        let stats = std::fs::read_to_string("/proc/diskstats")?;
        let sectors = stats.lines().find_map(|line| self.sectors(line));
        Ok(sectors.context("no such device in /proc/diskstats")? * SECTOR_BYTES)
    }

    fn sectors(&self, line: &str) -> Option<u64> {
        let mut fields = line.split_whitespace();
        let major: u32 = fields.next()?.parse().ok()?;
        let minor: u32 = fields.next()?.parse().ok()?;
        let written = fields.nth(7)?;
        (major == self.major && minor == self.minor).then(|| written.parse().ok())?
    }
}

/// The metrics page of an agent.
#[derive(Clone, Copy, Debug)]
pub struct Metrics(pub SocketAddr);

impl Metrics {
    /// The sum of all samples that begin with `name`: a family, or one sample of it by its labels.
    ///
    /// # Errors
    /// If the page cannot be had, or has no such sample.
    pub fn sum(self, name: &str) -> Result<u64> {
        let mut stream = TcpStream::connect(self.0).context("no metrics")?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        sum_of(&page, name)
    }
}

fn sum_of(page: &str, name: &str) -> Result<u64> {
    let samples: Vec<&str> = page.lines().filter(|line| line.starts_with(name)).collect();
    ensure!(!samples.is_empty(), "no {name} among the metrics");
    samples
        .iter()
        .map(|sample| {
            let (_, value) = sample
                .rsplit_once(' ')
                .context("a sample without a value")?;
            value.parse::<u64>().with_context(|| (*sample).to_owned())
        })
        .sum()
}

/// What the figures were measured on.
///
/// # Errors
/// If this is not Linux.
pub fn machine() -> Result<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let field = |name: &str| {
        let line = cpu.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "{} × {}, Linux {}",
        std::thread::available_parallelism()?,
        field("model name")
            .or_else(|| field("Model"))
            .unwrap_or_else(|| "unknown processor".into()),
        release.split(['-', '\n']).next().unwrap_or_default(),
    ))
}

/// How many programs wanted a processor at the same time, over the last minute.
///
/// # Errors
/// If this is not Linux.
pub fn load_average() -> Result<String> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    Ok(load.split(' ').next().unwrap_or_default().to_owned())
}

/// What Linux reports times in, on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;
/// The unit of /proc/diskstats, whatever the device's own sector is.
const SECTOR_BYTES: u64 = 512;

#[cfg(test)]
mod tests {
    use super::{Device, Process, sum_of};
    use std::path::PathBuf;

    #[test]
    fn the_tenth_field_of_a_devices_line_is_what_was_written() {
        let device = Device {
            path: PathBuf::new(),
            major: 7,
            minor: 3,
        };
        assert_eq!(
            device.sectors("   7       3 loop3 11 0 88 1 200 5 4321 9 0 0 0"),
            Some(4321)
        );
        assert_eq!(
            device.sectors("   7       4 loop4 11 0 88 1 200 5 4321 9 0 0 0"),
            None
        );
    }

    #[test]
    fn samples_of_one_family_are_summed_and_a_missing_one_is_no_zero() {
        let page = "# TYPE a counter\na{x=\"1\"} 40\na{x=\"2\"} 2\nb 7\n";
        assert_eq!(sum_of(page, "a{").unwrap(), 42);
        assert_eq!(sum_of(page, "a{x=\"2\"").unwrap(), 2);
        assert!(sum_of(page, "c").is_err());
    }

    #[test]
    fn this_process_has_memory_and_has_worked() {
        let this = Process(std::process::id());
        let (now, highest) = this.resident_bytes().unwrap();
        assert!(highest >= now && now > 100 * 1024);
        assert!(this.cpu_seconds().unwrap() >= 0.0);
    }
}
