//! Sorting of the short lists that a boot makes.

/// Sorts by a key; what has the same stays in its order. By insertion: for lists that are short, or nearly in order. The
/// library's sorts are made for long ones, and are 2 to 5 KiB of code for each type.
pub fn sort_by_key<T, K: Ord>(list: &mut [T], key: impl Fn(&T) -> K) {
    for end in 2..=list.len() {
        let mut rest = list.get_mut(..end);
        // The last one goes forward past all that are greater.
        while let Some([before @ .., one, last]) = rest
            && key(last) < key(one)
        {
            core::mem::swap(one, last);
            let next = before.len().saturating_add(1);
            rest = list.get_mut(..next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_sorts_as_the_library_does(list in prop::collection::vec((0..20_u8, any::<u8>()), 0..60)) {
            let (mut ours, mut theirs) = (list.clone(), list);
            sort_by_key(&mut ours, |one| one.0);
            theirs.sort_by_key(|one| one.0);
            prop_assert_eq!(ours, theirs);
        }
    }
}
