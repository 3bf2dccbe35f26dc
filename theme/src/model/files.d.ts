// A file that is copied beside the script: its address, seen from there.
declare module '*.wasm' {
  const address: string;
  export default address;
}
