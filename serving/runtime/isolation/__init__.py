"""What keeps other users of the machine out: folders and unix sockets that only the user of the server can use."""
