"""Every client against everything that can become of a held call: real processes, and a table of the answers."""
