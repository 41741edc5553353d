//! Content-Length, Transfer-Encoding and Connection: what the fields say together about the end of a message.
