//! AMF0: the values of RTMP commands and FLV script tags (AMF 0 specification, 1 December 2007).
