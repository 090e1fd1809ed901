//! Places on this machine: serial ports, ports to listen on, the disk.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};
use sedge_config::checked;
use sedge_config::quantity::show_size;
use sedge_store::disk;
use sedge_uplink::trust::accept::Acceptor;

use super::Finding;
use crate::cli::data_dir;
use crate::source::mqtt_listen::{self, logins};

/// A port with a device.
pub(super) fn serial(config: &checked::Serial) -> Vec<Finding> {
    let about = format!("source {}", config.name);
    let device = &config.device;
    let shown = device.display();
    let Ok(real) = fs::canonicalize(device) else {
        let there = by_id();
        let fix = match there.is_empty() {
            true => "plug the device in; `ls /dev/serial/by-id` shows what there is".to_owned(),
            false => format!("there is: {}", there.join(", ")),
        };
        return vec![Finding::bad(about, format!("{shown} is not there"), fix)];
    };
    let is_port = fs::metadata(&real).is_ok_and(|m| m.file_type().is_char_device());
    if !is_port {
        let what = format!("{shown} is no serial port");
        return vec![Finding::bad(
            about,
            what,
            "name one under /dev/serial/by-id",
        )];
    }
    let mut findings = vec![openable(&about, &real)];
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    if is_console(&name) {
        findings.push(Finding::bad(
            about.clone(),
            format!("the kernel's console is on {name}"),
            "sudo raspi-config nonint do_serial_cons 1 (or take console=… out of the kernel's command line), and restart",
        ));
    }
    if device.starts_with("/dev/ttyUSB") || device.starts_with("/dev/ttyACM") {
        findings.push(Finding::doubtful(
            about.clone(),
            format!("{shown} may be another device after the next start"),
            "name it by /dev/serial/by-id",
        ));
    }
    if name.starts_with("ttyACM") && runs("ModemManager") {
        findings.push(Finding::doubtful(
            about,
            "ModemManager runs, and talks to ports that it does not know",
            "sudo systemctl disable --now ModemManager, or tell udev ENV{ID_MM_DEVICE_IGNORE}=\"1\"",
        ));
    }
    findings
}

/// Opens as the agent would, but takes nothing.
fn openable(about: &str, port: &Path) -> Finding {
    let flags = (rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK).bits();
    let opened = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.cast_signed())
        .open(port);
    match opened {
        Ok(_) => Finding::good(about, format!("{} can be opened", port.display())),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Finding::bad(
            about,
            format!("{} may not be opened by this user", port.display()),
            "sudo usermod -aG dialout USER, and log in again (the package's service has it)",
        ),
        // An agent that runs has it for itself.
        Err(e) if e.kind() == ErrorKind::ResourceBusy => {
            Finding::good(about, format!("{} is in use", port.display()))
        }
        Err(e) => Finding::bad(
            about,
            format!("{} cannot be opened: {e}", port.display()),
            "sudo fuser -v on it shows who has it",
        ),
    }
}

fn by_id() -> Vec<String> {
    let entries = fs::read_dir("/dev/serial/by-id").into_iter().flatten();
    entries
        .flatten()
        .map(|entry| entry.path().display().to_string())
        .collect()
}

/// Whether the kernel's console is on the port of this name.
fn is_console(name: &str) -> bool {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let consoles = line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("console="))
        .map(|console| console.split(',').next().unwrap_or_default());
    let named = |console: &str| match console {
        "serial0" => fs::canonicalize("/dev/serial0").unwrap_or_default(),
        console => PathBuf::from("/dev").join(console),
    };
    let port = Path::new("/dev").join(name);
    consoles.map(named).any(|console| console == port)
}

fn runs(program: &str) -> bool {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
        .any(|name| name.trim() == program)
}

/// A port that devices connect to.
pub(super) fn listener(agent: &checked::Agent, config: &checked::MqttListen) -> Vec<Finding> {
    let about = format!("source {}", config.name);
    let agent_runs = std::os::unix::net::UnixStream::connect(&agent.gateway.control).is_ok();
    let mut findings = vec![match TcpListener::bind(config.listen) {
        Ok(_) => Finding::good(&*about, format!("{} is free", config.listen)),
        Err(e) if e.kind() == ErrorKind::AddrInUse && agent_runs => {
            Finding::good(&*about, format!("{} is listened on", config.listen))
        }
        Err(e) if e.kind() == ErrorKind::AddrInUse => Finding::bad(
            &*about,
            format!("{} is in use by another program", config.listen),
            format!(
                "sudo ss -ltnp 'sport = :{}' shows which; mosquitto: sudo systemctl disable --now mosquitto",
                config.listen.port()
            ),
        ),
        Err(e) => Finding::bad(
            &*about,
            format!("{} cannot be listened on: {e}", config.listen),
            "name an address of this machine, or 0.0.0.0 for all",
        ),
    }];
    if let Some(files) = mqtt_listen::server_files(config) {
        findings.push(match Acceptor::new(files) {
            Ok(_) => Finding::good(&*about, "its certificate and key can be used"),
            Err(e) => Finding::bad(&*about, e.to_string(), "see docs/guide/security.md"),
        });
    }
    if let Some(path) = &config.password_file {
        findings.push(match logins::check(path) {
            Ok(0) => Finding::bad(
                &*about,
                format!("{} has no user: nobody can connect", path.display()),
                format!("sedge passwd {} NAME", path.display()),
            ),
            Ok(users) => Finding::good(&*about, format!("{users} users")),
            Err(e) => Finding::bad(
                &*about,
                e.to_string(),
                format!("sedge passwd {} NAME", path.display()),
            ),
        });
    }
    let descriptors = getrlimit(Resource::Nofile).maximum;
    let wanted = u64::from(config.clients_max) + 100;
    if descriptors.is_some_and(|most| most < wanted) {
        findings.push(Finding::doubtful(
            about,
            format!(
                "clients_max = {} needs more open files than this user may have",
                config.clients_max
            ),
            format!("LimitNOFILE={wanted} in the unit, or a smaller clients_max"),
        ));
    }
    findings
}

/// Where the logs are.
pub(super) fn disk(agent: &checked::Agent) -> Vec<Finding> {
    let dir = &agent.gateway.data_dir;
    let mut findings = directory(dir, "gateway.data_dir");
    findings.extend(there(dir).map(|there| room(agent, there)));
    findings
}

/// Where data is to be, which `key` of the file says.
pub(super) fn directory(dir: &Path, key: &str) -> Vec<Finding> {
    let about = "disk";
    if let Some(what) = data_dir::is_none(dir) {
        let fix = format!("name another {key}, or move away what is there");
        return vec![Finding::bad(about, what, fix)];
    }
    let Some(mount) = there(dir).and_then(mount_of) else {
        return vec![Finding::bad(
            about,
            format!("{} has no place in any file system", dir.display()),
            format!("name another {key}"),
        )];
    };
    let mut findings = vec![file_system(&mount, key)];
    let options: Vec<&str> = mount.options.split(',').collect();
    if options.contains(&"ro") {
        findings.push(Finding::bad(
            about,
            format!("{} is mounted read-only", mount.point),
            format!("sudo mount -o remount,rw {}", mount.point),
        ));
    }
    if options.contains(&"nobarrier") || options.contains(&"barrier=0") {
        findings.push(Finding::bad(
            about,
            format!(
                "{} is mounted without barriers: what is acknowledged may not survive a power cut",
                mount.point
            ),
            format!(
                "take nobarrier out of /etc/fstab, and sudo mount -o remount,barrier {}",
                mount.point
            ),
        ));
    }
    findings.push(owner(dir));
    findings
}

/// `dir`, or what is there of the way to it.
fn there(dir: &Path) -> Option<&Path> {
    dir.ancestors().find(|path| path.exists())
}

fn file_system(mount: &Mount, key: &str) -> Finding {
    let Mount { kind, point, .. } = mount;
    match kind.as_str() {
        "tmpfs" | "ramfs" => Finding::bad(
            "disk",
            format!("{point} is in memory: nothing in it survives a power cut"),
            format!("name a {key} on a card or disk"),
        ),
        "overlay" | "nfs" | "nfs4" | "cifs" | "vfat" | "exfat" | "fuseblk" | "9p" => {
            Finding::doubtful(
                "disk",
                format!("{point} is {kind}, which does not always keep what was synced"),
                "use ext4 or f2fs on a card or disk of this machine",
            )
        }
        kind => Finding::good("disk", format!("{point} is {kind}")),
    }
}

fn owner(dir: &Path) -> Finding {
    let me = rustix::process::geteuid();
    let shown = dir.display();
    let another = || {
        Finding::doubtful(
            "disk",
            format!("{shown} belongs to another user"),
            "run this as that user: sudo -u sedge sedge doctor",
        )
    };
    let is_closed = || {
        let closed = data_dir::is_closed(dir)?;
        let fix = format!(
            "sudo install -d -o $(id -un) {shown}, or run this as the user of the service: sudo -u sedge sedge doctor"
        );
        Some(Finding::bad("disk", closed, fix))
    };
    match fs::metadata(dir) {
        Ok(there) if !me.is_root() && there.uid() != me.as_raw() => another(),
        Ok(_) => {
            is_closed().unwrap_or_else(|| Finding::good("disk", format!("{shown} can be written")))
        }
        Err(e) if e.kind() == ErrorKind::PermissionDenied => another(),
        Err(_) => is_closed()
            .unwrap_or_else(|| Finding::good("disk", format!("{shown} is made at the start"))),
    }
}

fn room(agent: &checked::Agent, there: &Path) -> Finding {
    let wanted = agent.capacity_bytes();
    let free = disk::free(there).unwrap_or(0);
    let used = used_by(&agent.gateway.data_dir);
    let shown = show_size(free >> 20 << 20);
    match free.saturating_add(used) < wanted {
        true => Finding::bad(
            "disk",
            format!(
                "the streams reserve {} and {shown} are free",
                show_size(wanted)
            ),
            "make room, or give the streams less `capacity`",
        ),
        false => Finding::good("disk", format!("room for all streams ({shown} free)")),
    }
}

/// Bytes that the logs have on the disk already.
fn used_by(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(m) if m.is_dir() => used_by(&entry.path()),
            Ok(m) => m.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// A file system that is mounted.
struct Mount {
    point: String,
    kind: String,
    options: String,
}

/// The one that holds `path`.
fn mount_of(path: &Path) -> Option<Mount> {
    let path = fs::canonicalize(path).ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let of_line = |line: &str| {
        let mut words = line.split(' ').skip(1).map(str::to_owned);
        Some(Mount {
            point: words.next()?,
            kind: words.next()?,
            options: words.next()?,
        })
    };
    let holding = mounts.lines().filter_map(of_line);
    let holding = holding.filter(|mount| path.starts_with(&mount.point));
    // Of two on one point the later one is seen.
    holding.max_by_key(|mount| mount.point.len())
}
