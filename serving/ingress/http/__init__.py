"""HTTP/1.1: connections, requests, responses, and the routes that are answered from the parser."""
