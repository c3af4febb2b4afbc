//! A pseudo-terminal: what programs need to see at their output before they write line by line.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// Our end and the program's. What the program writes comes out unchanged: the terminal turns no line break into two bytes.
///
/// # Errors
/// No `/dev/ptmx` here, or no terminal left.
pub(crate) fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let ours = OwnedFd::from(File::options().read(true).write(true).open("/dev/ptmx")?);
    let unlock: libc::c_int = 0;
    // SAFETY: `unlock` is a valid place to read from; TIOCGPTPEER (ioctl_tty(2)) takes plain flags and gives a new descriptor
    // that nobody else owns; `settings` is written before it is read.
    unsafe {
        if libc::ioctl(ours.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) == -1 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let peer = libc::ioctl(ours.as_raw_fd(), libc::TIOCGPTPEER, flags);
        if peer == -1 {
            return Err(io::Error::last_os_error());
        }
        let theirs = OwnedFd::from_raw_fd(peer);
        let mut settings = MaybeUninit::<libc::termios>::zeroed();
        if libc::tcgetattr(peer, settings.as_mut_ptr()) == -1 {
            return Err(io::Error::last_os_error());
        }
        let mut settings = settings.assume_init();
        settings.c_oflag &= !libc::OPOST;
        let size = libc::winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        if libc::tcsetattr(peer, libc::TCSANOW, &raw const settings) == -1
            || libc::ioctl(peer, libc::TIOCSWINSZ, &raw const size) == -1
        {
            return Err(io::Error::last_os_error());
        }
        Ok((ours, theirs))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{IsTerminal as _, Read as _, Write as _};

    use super::*;

    #[test]
    fn what_is_written_comes_out_unchanged() {
        let (ours, theirs) = open().unwrap();
        assert!(theirs.is_terminal());
        File::from(theirs).write_all(b"a\nb\n").unwrap();
        let mut bytes = [0; 4];
        File::from(ours).read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"a\nb\n");
    }
}
