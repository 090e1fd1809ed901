//! A table on a terminal that may be narrow: which columns there is room for, how wide the name is, and what is cut.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::Span;

/// A column behind the name. The last one takes what is left.
pub(super) struct Column {
    pub(super) head: &'static str,
    pub(super) width: u16,
    /// Numbers stand at the right.
    pub(super) right: bool,
    /// The columns with the highest go first when there is no room; those with 0 never.
    pub(super) yields: u8,
}

/// What stands in a cell.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) style: Style,
}

/// A row: its name, and a cell for each column.
pub(super) struct Row {
    pub(super) name: Cell,
    pub(super) cells: Vec<Cell>,
}

impl Cell {
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self::styled(text, Style::new())
    }

    pub(super) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }
}

/// Draws head and rows into `area`. If there are more rows than room, the last line says how many are not shown.
pub(super) fn draw(name: &str, columns: &[Column], rows: &[Row], area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    let longest = rows.iter().map(|row| width_of(&row.name.text) as u16).max();
    let longest = longest.unwrap_or(0).max(NAME_LEAST);
    let shown = chosen(columns, area.width);
    let taken = taken(columns, &shown);
    let name_width = area.width.saturating_sub(taken).clamp(NAME_LEAST, longest);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let head = Row {
        name: Cell::styled(name, bold),
        cells: columns
            .iter()
            .map(|column| Cell::styled(column.head, bold))
            .collect(),
    };
    let room = usize::from(area.height) - 1;
    let (visible, hidden) = match rows.len() > room {
        true => (room.saturating_sub(1), rows.len() - room.saturating_sub(1)),
        false => (rows.len(), 0),
    };
    for (line, row) in std::iter::once(&head).chain(&rows[..visible]).enumerate() {
        let line = Rect {
            y: area.y + line as u16,
            height: 1,
            ..area
        };
        draw_row(columns, &shown, name_width, row, line, buffer);
    }
    if hidden > 0 && room > 0 {
        let more = format!("… {hidden} more");
        buffer.set_stringn(
            area.x,
            area.bottom() - 1,
            more,
            area.width.into(),
            Style::new(),
        );
    }
}

fn draw_row(
    columns: &[Column],
    shown: &[usize],
    name_width: u16,
    row: &Row,
    line: Rect,
    buffer: &mut Buffer,
) {
    let mut at = line.x;
    let mut put = |text: &str, style: Style, width: u16, right: bool| {
        let room = line.right().saturating_sub(at).min(width);
        let text = cut_end(text, room.into());
        let lead = if right {
            room.saturating_sub(width_of(&text) as u16)
        } else {
            0
        };
        buffer.set_stringn(at + lead, line.y, text, room.into(), style);
        at = (at + width + SPACE).min(line.right());
    };
    put(
        &cut_middle(&row.name.text, name_width.into()),
        row.name.style,
        name_width,
        false,
    );
    for (place, number) in shown.iter().enumerate() {
        let (column, cell) = (&columns[*number], &row.cells[*number]);
        let width = match place + 1 == shown.len() {
            true => line.width,
            false => column.width,
        };
        put(&cell.text, cell.style, width, column.right);
    }
}

/// The columns for which there is room beside the shortest name.
fn chosen(columns: &[Column], width: u16) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    while taken(columns, &shown) + NAME_LEAST > width {
        let Some(most) = shown
            .iter()
            .copied()
            .filter(|number| columns[*number].yields > 0)
            .max_by_key(|number| columns[*number].yields)
        else {
            break;
        };
        shown.retain(|number| *number != most);
    }
    shown
}

/// What these columns take at least, with the space before each.
fn taken(columns: &[Column], shown: &[usize]) -> u16 {
    shown
        .iter()
        .map(|number| columns[*number].width + SPACE)
        .sum()
}

/// At most `width` columns of `text`, with a sign that something is left out at its end.
pub(super) fn cut_end(text: &str, width: usize) -> String {
    if width_of(text) <= width {
        return text.to_owned();
    }
    let mut cut = beginning(text, width.saturating_sub(1));
    if width > 0 {
        cut.push('…');
    }
    cut
}

/// The same for a name, whose end often tells it from others: what is left out is in its middle.
pub(super) fn cut_middle(name: &str, width: usize) -> String {
    if width_of(name) <= width {
        return name.to_owned();
    }
    let Some(room) = width.checked_sub(1) else {
        return String::new();
    };
    let reversed: String = name.chars().rev().collect();
    let end: String = beginning(&reversed, room / 2).chars().rev().collect();
    format!("{}…{end}", beginning(name, room - room / 2))
}

/// Columns on a terminal.
fn width_of(text: &str) -> usize {
    Span::raw(text).width()
}

fn beginning(text: &str, width: usize) -> String {
    let mut taken = 0;
    let fits = |c: &char| {
        taken += width_of(&c.to_string());
        taken <= width
    };
    text.chars().take_while(fits).collect()
}

/// A name is never narrower than this.
const NAME_LEAST: u16 = 8;
const SPACE: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_loses_its_middle_and_a_long_text_its_end() {
        assert_eq!(cut_middle("boiler", 8), "boiler");
        assert_eq!(cut_middle("press-line-hall-west-4", 9), "pres…st-4");
        assert_eq!(cut_middle("press-line-hall-west-4", 1), "…");
        assert_eq!(cut_middle("press", 0), "");
        assert_eq!(cut_end("connection refused", 10), "connectio…");
        assert_eq!(cut_end("連続運転中", 7), "連続運…");
    }
}
