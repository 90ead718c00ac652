//! Servers that serve nothing useful.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

const ADDRESS: &str = "10.77.0.1:0";

/// Starts a server that answers every connection with rubbish. Returns its URL as an origin.
pub fn rubbish() -> Result<String, String> {
    let address = serve(|socket, _| {
        let mut read = [0; 1537];
        let _ = socket.read(&mut read);
        let _ = socket.write_all(&[0x55; 8192]);
    })?;
    Ok(format!("rtmp://{address}"))
}

/// Starts an HTTP server that redirects each request to itself. Returns its URL as an origin.
pub fn redirects() -> Result<String, String> {
    let address = serve(|socket, address| {
        let mut read = [0; 4096];
        let _ = socket.read(&mut read);
        let head = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\n";
        let _ = write!(socket, "{head}Location: http://{address}/live/p.flv\r\n\r\n");
    })?;
    Ok(format!("http://{address}"))
}

fn serve(answer: impl Fn(&mut TcpStream, &str) + Send + 'static) -> Result<String, String> {
    let listener = TcpListener::bind(ADDRESS).map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?.to_string();
    let own = address.clone();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            answer(&mut socket, &own);
        }
    });
    Ok(address)
}
