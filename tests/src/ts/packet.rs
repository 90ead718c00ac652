//! Transport packets (2.4.3.2 to 2.4.3.5).

/// The length of a packet.
pub const PACKET_LEN: usize = 188;

/// One packet, read as far as possible.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The first four bytes.
    pub header: [u8; 4],
    /// `PID`.
    pub pid: u16,
    /// `payload_unit_start_indicator`.
    pub start: bool,
    /// `continuity_counter`.
    pub continuity: u8,
    /// The adaptation field, if there is one.
    pub field: Option<Field>,
    /// The error in the adaptation field.
    pub field_fault: Option<String>,
    /// The payload; `None` when the header says that there is none.
    pub payload: Option<Vec<u8>>,
}

/// An adaptation field.
#[derive(Clone, Copy, Debug, Default)]
pub struct Field {
    /// `discontinuity_indicator`.
    pub discontinuity: bool,
    /// `random_access_indicator`.
    pub random_access: bool,
    /// The clock reference: its base of 33 bits, and its extension.
    pub pcr: Option<(u64, u16)>,
}

impl Packet {
    /// Reads 188 bytes.
    #[must_use]
    pub fn read(bytes: &[u8; PACKET_LEN]) -> Packet {
        let header = [bytes[0], bytes[1], bytes[2], bytes[3]];
        let mut packet = Packet {
            header,
            pid: u16::from_be_bytes([bytes[1] & 0x1f, bytes[2]]),
            start: bytes[1] & 0x40 != 0,
            continuity: bytes[3] & 15,
            field: None,
            field_fault: None,
            payload: None,
        };
        let mut body = &bytes[4..];
        if bytes[3] & 0x20 != 0 {
            let len = usize::from(body[0]);
            let most = if bytes[3] & 0x10 != 0 { 182 } else { 183 };
            if len > most || most == 183 && len < 183 {
                packet.field_fault = Some(format!("adaptation_field_length {len}"));
                return packet;
            }
            let (field, payload) = body[1..].split_at(len);
            body = payload;
            match read_field(field) {
                Ok(field) => packet.field = Some(field),
                Err(fault) => packet.field_fault = Some(fault),
            }
        }
        if bytes[3] & 0x10 != 0 {
            packet.payload = Some(body.to_vec());
        }
        packet
    }

    /// `random_access_indicator`.
    #[must_use]
    pub fn random_access(&self) -> bool {
        self.field.is_some_and(|field| field.random_access)
    }

    /// `discontinuity_indicator`.
    #[must_use]
    pub fn discontinuity(&self) -> bool {
        self.field.is_some_and(|field| field.discontinuity)
    }
}

fn read_field(bytes: &[u8]) -> Result<Field, String> {
    let Some((flags, mut rest)) = bytes.split_first() else { return Ok(Field::default()) };
    let mut field = Field { discontinuity: flags & 0x80 != 0, random_access: flags & 0x40 != 0, pcr: None };
    if flags & 0x0f != 0 {
        return Err(format!("adaptation field with flags {flags:#04x}"));
    }
    if flags & 0x10 != 0 {
        let [a, b, c, d, e, f, more @ ..] = rest else { return Err("a clock reference is cut off".into()) };
        let value = u64::from_be_bytes([0, 0, *a, *b, *c, *d, *e, *f]);
        let extension = (value & 0x1ff) as u16;
        if value >> 9 & 0x3f != 0x3f || extension >= 300 {
            return Err(format!("clock reference {value:#014x}"));
        }
        field.pcr = Some((value >> 15, extension));
        rest = more;
    }
    match rest.iter().find(|&&byte| byte != 0xff) {
        Some(byte) => Err(format!("stuffing with {byte:#04x}")),
        None => Ok(field),
    }
}
