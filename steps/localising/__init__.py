"""Where two forms begin to differ, and what that usually means. It explains a verdict and never makes one."""
