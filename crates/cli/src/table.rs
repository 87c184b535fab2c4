//! Columns, as docker's table writer aligns them.

const BETWEEN: usize = 3;
const NARROWEST: usize = 10;

/// Aligns cells that end with a tab. A column is as wide as its widest cell and three blanks, but never under ten, for as
/// many lines in a row as have a cell there; what comes after a line's last tab is in no column (Go's text/tabwriter).
pub(crate) fn align(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = vec![Vec::new(); lines.len()];
    let most = lines.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..most.saturating_sub(1) {
        let has = |line: usize| lines[line].len() > column + 1;
        let mut start = 0;
        while start < lines.len() {
            let end = (start..lines.len()).find(|line| !has(*line)).unwrap_or(lines.len());
            let widest = (start..end).map(|line| lines[line][column].chars().count()).max().unwrap_or(0);
            widths[start..end].iter_mut().for_each(|line| line.push((widest + BETWEEN).max(NARROWEST)));
            start = end.max(start + 1);
        }
    }
    let mut aligned = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(&widths) {
        for (index, cell) in cells.iter().enumerate() {
            aligned += cell;
            let blanks = widths.get(index).map_or(0, |width| width.saturating_sub(cell.chars().count()));
            aligned.extend(std::iter::repeat_n(' ', blanks));
        }
        aligned.push('\n');
    }
    aligned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_dockers() {
        assert_eq!(align("DRIVER\tVOLUME NAME\n"), "DRIVER    VOLUME NAME\n");
        assert_eq!(
            align("DRIVER\tVOLUME NAME\nlocal\tdb\na-longer-driver\t\n"),
            "DRIVER            VOLUME NAME\nlocal             db\na-longer-driver   \n"
        );
    }

    #[test]
    fn a_column_ends_with_the_lines_that_have_it() {
        assert_eq!(
            align("a\tb\nlonger than ten\tc\nno column\nd\te\n"),
            "\
a                 b
longer than ten   c
no column
d         e
"
        );
    }
}
