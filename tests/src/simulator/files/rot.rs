//! Bits that rot on a disk, and places of it that wear out.

use std::path::Path;

use super::{Disk, Inode, Node, PAGE_BYTES, State};

/// Where bits rot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum Rotten {
    Segment,
    Identity,
}

impl Disk {
    /// Bits rot in a segment that is not being written to, or in an identity file that has a sound copy, or in that copy. Where; nowhere if there is no such file.
    pub(in crate::simulator) fn rot(&self) -> Option<Rotten> {
        let mut state = self.lock();
        let of_identity = match state.random.one_in(4) {
            true => state.any_identity(),
            false => None,
        };
        let (what, inode, page, bytes) = match of_identity {
            Some((inode, bytes)) => (Rotten::Identity, inode, 0, bytes),
            None => {
                let (inode, page) = state.any_page(true)?;
                (Rotten::Segment, inode, page, PAGE_BYTES)
            }
        };
        let bits = 1 + state.random.below(8);
        for _ in 0..bits {
            let bit = state.random.index(bytes * 8);
            let inode = state.inodes.get_mut(&inode).expect("it was just found");
            let page = inode.pages.get_mut(&page).expect("it was just found");
            page[bit / 8] ^= 1 << (bit % 8);
        }
        Some(what)
    }
}

impl State {
    /// An identity file or its copy, of two that say the same, also when power fails now; and how long it is. What was written without a sync is on a real disk
    /// half a minute later.
    fn any_identity(&mut self) -> Option<(u64, usize)> {
        let files = self.names.iter().filter_map(|(path, node)| match node {
            Node::File(inode) => Some((path, *inode)),
            Node::Directory => None,
        });
        let is_sound = |inode: &Inode| {
            let is_there = inode.dirty.is_empty() && inode.lost.is_empty();
            is_there && (1..=PAGE_BYTES as u64).contains(&inode.len)
        };
        let is_named =
            |path: &Path, inode: u64| self.durable_names.get(path) == Some(&Node::File(inode));
        let mut found = Vec::new();
        for (path, inode) in files.filter(|(path, _)| path.ends_with(IDENTITY)) {
            let path_of_copy = path.with_file_name(COPY);
            let Some(Node::File(copy)) = self.names.get(&path_of_copy) else {
                continue;
            };
            let (one, other) = (&self.inodes[&inode], &self.inodes[copy]);
            let is_said_twice = one.len == other.len && one.pages == other.pages;
            let are_there = is_named(path, inode) && is_named(&path_of_copy, *copy);
            let are_sound = is_sound(one) && is_sound(other) && one.pages.contains_key(&0);
            if is_said_twice && are_there && are_sound {
                found.extend([inode, *copy].map(|inode| (inode, one.len as usize)));
            }
        }
        found.get(self.random.index(found.len())).copied()
    }

    /// Any page of any segment file, the first of it more often than others.
    pub(super) fn any_place(&mut self) -> Option<(u64, u64)> {
        let files = self.names.iter().filter_map(|(path, node)| match node {
            Node::File(inode) if is_segment(path) => Some(*inode),
            Node::File(_) | Node::Directory => None,
        });
        let files: Vec<u64> = files.collect();
        let inode = *files.get(self.random.index(files.len()))?;
        let pages = self.inodes[&inode].len.div_ceil(PAGE_BYTES as u64);
        let page = match self.random.one_in(4) {
            true => 0,
            false => self.random.below(pages.max(1)),
        };
        Some((inode, page))
    }

    /// A page of a segment file that holds something; `sealed`: of one that others were written after.
    pub(super) fn any_page(&mut self, sealed: bool) -> Option<(u64, u64)> {
        let is_head = |path: &Path, inode: u64| {
            let head = path.parent().and_then(|dir| self.heads.get(dir));
            head.is_none_or(|head| *head == inode)
        };
        let mut files = Vec::new();
        for (path, node) in &self.names {
            if let Node::File(inode) = node
                && is_segment(path)
                && !(sealed && is_head(path, *inode))
                && !self.inodes[inode].pages.is_empty()
            {
                files.push(*inode);
            }
        }
        let inode = *files.get(self.random.index(files.len()))?;
        let pages = &self.inodes[&inode].pages;
        let page = pages.keys().nth(self.random.index(pages.len()))?;
        Some((inode, *page))
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "log")
}

const IDENTITY: &str = "identity.toml";
const COPY: &str = "identity-copy.toml";
