//! The padding variable that gives the initial stack a constant size, whatever the lengths of paths, arguments and
//! environment. Pure arithmetic on what the kernel does in `fs/exec.c` and `fs/binfmt_elf.c`.

/// Name of the variable.
pub(super) const VARIABLE: &str = "MEMCHECK_PAD";

/// The whole image is filled up to a multiple of this.
pub(super) const STEP_BYTES: usize = 16 << 10;

/// Lengths that decide the size of the initial stack; strings without their ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    /// The path given to `execve`.
    pub(super) program: usize,
    /// Each argument, `argv[0]` included.
    pub(super) arguments: Vec<usize>,
    /// Each `NAME=value` but for the padding.
    pub(super) environment: Vec<usize>,
    /// Platform strings with their ends.
    pub(super) platform: usize,
}

/// Bytes from the end of the stack down to the initial stack pointer, but for the auxiliary vector (a multiple of 16, the
/// same for every program on one machine).
///
/// The kernel leaves one word free, copies the path, the environment and the arguments (`bprm_stack_limits`,
/// `copy_strings`), aligns to 16, puts the platform strings and 16 random bytes, then the auxiliary vector, the pointers
/// with two ends and `argc`, and aligns to 16 again (`create_elf_tables`).
fn image_bytes(image: &Image, pad_value: usize) -> usize {
    let pad = VARIABLE.len() + 1 + pad_value;
    let strings: usize = image
        .arguments
        .iter()
        .chain(&image.environment)
        .chain([&image.program, &pad])
        .map(|length| length + 1)
        .sum();
    let pointers = image.arguments.len() + image.environment.len() + 1 + 3;
    let top = (8 + strings).next_multiple_of(16);
    (top + image.platform + 16 + 8 * pointers).next_multiple_of(16)
}

/// Length of the padding variable's value, and the size it fills the image up to.
pub(super) fn padding(image: &Image) -> (usize, usize) {
    let bare = image_bytes(image, 0);
    let total = bare.next_multiple_of(STEP_BYTES);
    // Sizes grow in steps of 16 bytes as the value grows by single ones: the first length that reaches the total is found
    // within one step of the difference.
    let mut value = (total - bare).saturating_sub(16);
    while image_bytes(image, value) < total {
        value += 1;
    }
    (value, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_total_is_a_multiple_of_the_step_for_any_lengths(
            program in 1usize..300,
            arguments in prop::collection::vec(0usize..200, 1..20),
            environment in prop::collection::vec(1usize..2000, 0..40),
            platform in 0usize..20,
        ) {
            let image = Image { program, arguments, environment, platform };
            let (value, total) = padding(&image);
            prop_assert_eq!(image_bytes(&image, value), total);
            prop_assert_eq!(total % STEP_BYTES, 0);
            prop_assert!(value <= STEP_BYTES);
        }
    }

    #[test]
    fn lengths_below_the_step_all_give_one_total() {
        let image = |program, count| Image {
            program,
            arguments: vec![10],
            environment: vec![20; count],
            platform: 7,
        };
        assert_eq!(padding(&image(5, 0)).1, STEP_BYTES);
        assert_eq!(padding(&image(200, 100)).1, STEP_BYTES);
        assert_eq!(padding(&image(200, 1000)).1, 2 * STEP_BYTES);
    }
}
