"use strict";
/* Reads Arrow IPC files as posecap.explore.contents writes them: one record batch, little-endian, uncompressed, no nulls.
 *
 *     const table = readArrow(bytes);          // a Uint8Array at the beginning of its buffer
 *     table.rows;                              // number of rows
 *     table.columns.T[5];                      // numbers: a typed array (int8 to int32, uint8, float32, float64)
 *     table.columns.key.at(5);                 // utf8: text; binary: a Uint8Array
 *     table.columns.label.at(5);               // a dictionary of utf8: text; .codes and .words are its two arrays
 *     table.columns.captions.at(5);            // a list: a typed array or an Array of texts
 *
 * The layout is that of "Arrow Columnar Format", Apache Arrow: a flatbuffer at the end of the file, the
 * footer, says where the messages are; the flatbuffer of a message says where its buffers are. A field of a flatbuffer
 * table is known by its number in Arrow's files Schema.fbs, Message.fbs and File.fbs; these numbers stand below.
 */

class FlatTable {
  /* A table of a flatbuffer, at a byte of a DataView. */
  constructor(view, at) {
    this.view = view;
    this.at = at;
    this.fields = at - view.getInt32(at, true); // its vtable: size of it, size of the table, offset of each field
  }

  static root(view, at) {
    return new FlatTable(view, at + view.getUint32(at, true));
  }

  /* Where field `number` begins; 0 where the table has none. */
  place(number) {
    const entry = 4 + 2 * number;
    if (entry >= this.view.getUint16(this.fields, true)) return 0;
    const offset = this.view.getUint16(this.fields + entry, true);
    return offset ? this.at + offset : 0;
  }

  byte(number) {
    const at = this.place(number);
    return at ? this.view.getUint8(at) : 0;
  }

  int16(number) {
    const at = this.place(number);
    return at ? this.view.getInt16(at, true) : 0;
  }

  int32(number) {
    const at = this.place(number);
    return at ? this.view.getInt32(at, true) : 0;
  }

  int64(number) {
    const at = this.place(number);
    return at ? Number(this.view.getBigInt64(at, true)) : 0;
  }

  table(number) {
    const at = this.place(number);
    return at ? FlatTable.root(this.view, at) : null;
  }

  text(number) {
    const place = this.place(number);
    if (!place) return "";
    const at = place + this.view.getUint32(place, true);
    const length = this.view.getUint32(at, true);
    return new TextDecoder().decode(new Uint8Array(this.view.buffer, this.view.byteOffset + at + 4, length));
  }

  /* The bytes at which the entries of a vector begin; of structs `size` bytes each, of tables (size 0) the tables. */
  vector(number, size) {
    const place = this.place(number);
    if (!place) return [];
    const at = place + this.view.getUint32(place, true);
    const entries = Array.from({ length: this.view.getUint32(at, true) }, (_, i) => at + 4 + i * (size || 4));
    return size ? entries : entries.map((entry) => FlatTable.root(this.view, entry));
  }
}

class Texts {
  /* A column of utf8 or, where `decoder` is null, of binary. */
  constructor(offsets, bytes, decoder) {
    Object.assign(this, { offsets, bytes, decoder, length: offsets.length - 1 });
  }

  at(row) {
    const part = this.bytes.subarray(this.offsets[row], this.offsets[row + 1]);
    return this.decoder ? this.decoder.decode(part) : part;
  }
}

class Lists {
  /* A column of lists, whose values are one after another in `values`. */
  constructor(offsets, values) {
    Object.assign(this, { offsets, values, length: offsets.length - 1 });
  }

  at(row) {
    const [first, end] = [this.offsets[row], this.offsets[row + 1]];
    if (ArrayBuffer.isView(this.values)) return this.values.subarray(first, end);
    return Array.from({ length: end - first }, (_, i) => this.values.at(first + i));
  }
}

class Words {
  /* A dictionary-encoded column: the word of row i is words[codes[i]]. */
  constructor(codes, words) {
    Object.assign(this, { codes, words, length: codes.length });
  }

  at(row) {
    return this.words[this.codes[row]];
  }
}

class ArrowFileError extends Error {}

/* Numbers of Arrow's types in Schema.fbs, of the union Type. */
const INT = 2, FLOAT = 3, BINARY = 4, UTF8 = 5, LIST = 12;

function numbersOf(type, parameters) {
  if (type === FLOAT) return { 1: Float32Array, 2: Float64Array }[parameters.int16(0)]; // precision
  const signed = parameters.byte(1);
  const kind = { 8: [Uint8Array, Int8Array], 16: [Uint16Array, Int16Array], 32: [Uint32Array, Int32Array] };
  return kind[parameters.int32(0)]?.[signed]; // bit width
}

function readArrow(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = (at) => new TextDecoder("latin1").decode(bytes.subarray(at, at + 6));
  if (bytes.byteOffset % 8 || magic(0) !== "ARROW1" || magic(bytes.length - 6) !== "ARROW1") {
    throw new ArrowFileError("these bytes are no Arrow IPC file");
  }
  const footer = FlatTable.root(view, bytes.length - 10 - view.getInt32(bytes.length - 10, true));
  const fields = footer.table(1).vector(1, 0); // schema, fields
  // Of a block: where its message begins, the size of its metadata, and that of its body, as int64, int32, int64.
  const message = (block) => {
    const at = Number(view.getBigInt64(block, true));
    return { header: FlatTable.root(view, at + 8).table(2), body: at + view.getInt32(block + 8, true) };
  };

  /* Takes the buffers of a record batch one after another, in the order in which columns and their children have them. */
  function cursor(batch, body) {
    const [nodes, buffers] = [batch.vector(1, 16), batch.vector(2, 16)]; // (length, nulls), (offset, length)
    let [node, buffer] = [0, 0];
    const rows = () => {
      const at = nodes[node++];
      if (view.getBigInt64(at + 8, true)) throw new ArrowFileError("a column holds nulls, which posecap writes none of");
      return Number(view.getBigInt64(at, true));
    };
    const array = (Kind, length) => {
      const at = bytes.byteOffset + body + Number(view.getBigInt64(buffers[buffer++], true));
      return new Kind(bytes.buffer, at, length);
    };
    const size = () => Number(view.getBigInt64(buffers[buffer] + 8, true));
    return { rows, array, size, skip: () => buffer++ };
  }

  function column(from, type, parameters, children) {
    const rows = from.rows();
    from.skip(); // which rows are null
    if (type === INT || type === FLOAT) {
      const Kind = numbersOf(type, parameters);
      if (Kind) return from.array(Kind, rows);
    }
    if (type === UTF8 || type === BINARY) {
      const offsets = from.array(Int32Array, from.size() ? rows + 1 : 0);
      const values = from.array(Uint8Array, offsets.length ? offsets[rows] : 0);
      return new Texts(offsets.length ? offsets : new Int32Array(1), values, type === UTF8 ? new TextDecoder() : null);
    }
    if (type === LIST) {
      const offsets = from.array(Int32Array, from.size() ? rows + 1 : 0);
      const child = children[0];
      const values = column(from, child.byte(2), child.table(3), child.vector(5, 0));
      return new Lists(offsets.length ? offsets : new Int32Array(1), values);
    }
    throw new ArrowFileError(`a column has type ${type}, which posecap writes none of`);
  }

  const dictionaries = new Map();
  for (const block of footer.vector(2, 24)) {
    const { header, body } = message(block); // a DictionaryBatch: id, record batch
    const batch = header.table(1);
    const words = column(cursor(batch, body), UTF8, null, []);
    dictionaries.set(header.int64(0), Array.from({ length: batch.int64(0) }, (_, i) => words.at(i)));
  }
  const batches = footer.vector(3, 24);
  if (batches.length !== 1) throw new ArrowFileError(`the file has ${batches.length} record batches, not 1`);
  const { header, body } = message(batches[0]);
  const from = cursor(header, body);
  const columns = {};
  for (const field of fields) {
    const dictionary = field.table(4);
    if (dictionary) {
      const codes = column(from, INT, dictionary.table(1), []);
      columns[field.text(0)] = new Words(codes, dictionaries.get(dictionary.int64(0)));
    } else {
      columns[field.text(0)] = column(from, field.byte(2), field.table(3), field.vector(5, 0));
    }
  }
  return { rows: header.int64(0), columns };
}
