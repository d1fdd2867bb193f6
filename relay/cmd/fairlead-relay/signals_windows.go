package main

import "os"

// hangups is empty: Windows has no SIGHUP, and `reload` does its work.
var hangups []os.Signal
