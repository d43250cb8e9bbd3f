"""What servers refuse: what it is about, when it stops a run, what is recorded, and when it is asked again."""
