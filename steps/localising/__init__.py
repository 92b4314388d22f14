"""Where two forms begin to differ, and the usual cause. This room explains a verdict and never decides one."""
