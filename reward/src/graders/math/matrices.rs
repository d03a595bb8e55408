//! Sums and products of matrices and scalars.

use super::rational::integer;
use super::tree::Tree;

/// The tree, with one matrix in place of arithmetic on matrices. What does not fit together stays as it is.
pub(super) fn computed(tree: &Tree) -> Tree {
    rows(tree).map_or_else(|| tree.clone(), Tree::Matrix)
}

fn rows(tree: &Tree) -> Option<Vec<Vec<Tree>>> {
    match tree {
        Tree::Matrix(rows) => Some(rows.clone()),
        Tree::Negative(inner) => Some(scaled(&rows(inner)?, &Tree::Number(integer(-1)))),
        Tree::Sum(parts) => {
            let (first, rest) = parts.split_first()?;
            rest.iter().try_fold(rows(first)?, |sum, part| sum_of(&sum, &rows(part)?))
        }
        Tree::Product(parts) => product(parts),
        Tree::Quotient(top, bottom) => {
            let one = Box::new(Tree::Number(integer(1)));
            Some(scaled(&rows(top)?, &Tree::Quotient(one, bottom.clone())))
        }
        _ => None,
    }
}

fn sum_of(a: &[Vec<Tree>], b: &[Vec<Tree>]) -> Option<Vec<Vec<Tree>>> {
    let alike = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.len() == b.len());
    let add = |(a, b): (&Tree, &Tree)| Tree::Sum(vec![a.clone(), b.clone()]);
    alike.then(|| a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(add).collect()).collect())
}

fn product(parts: &[Tree]) -> Option<Vec<Vec<Tree>>> {
    let (matrices, scalars): (Vec<&Tree>, Vec<&Tree>) = parts.iter().partition(|part| rows(part).is_some());
    let mut matrices = matrices.into_iter().filter_map(rows);
    let first = matrices.next()?;
    let product = matrices.try_fold(first, |a, b| product_of(&a, &b))?;
    Some(scalars.into_iter().fold(product, |product, scalar| scaled(&product, scalar)))
}

fn product_of(a: &[Vec<Tree>], b: &[Vec<Tree>]) -> Option<Vec<Vec<Tree>>> {
    let columns = b.first()?.len();
    let fits = a.iter().all(|row| row.len() == b.len()) && b.iter().all(|row| row.len() == columns);
    let cell = |row: &[Tree], column: usize| {
        let terms = row.iter().zip(b).map(|(x, row)| Tree::Product(vec![x.clone(), row[column].clone()]));
        Tree::Sum(terms.collect())
    };
    fits.then(|| a.iter().map(|row| (0..columns).map(|column| cell(row, column)).collect()).collect())
}

fn scaled(rows: &[Vec<Tree>], scalar: &Tree) -> Vec<Vec<Tree>> {
    let times = |x: &Tree| Tree::Product(vec![scalar.clone(), x.clone()]);
    rows.iter().map(|row| row.iter().map(times).collect()).collect()
}
